"""Room on ComfyUI's disk: a file's bytes are reserved before the first of them arrives."""

import asyncio
import logging
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ...durable import in_thread
from ...errors import StorageFullError, UnavailableError
from .files import Found, found_in, remove_all
from .grants import Grants

log = logging.getLogger(__name__)


@dataclass
class _Usage:
    """The files, by inode: equal bytes that are linked count once."""

    size: dict[tuple[int, int], int] = field(default_factory=dict)
    used_at: dict[tuple[int, int], float] = field(default_factory=dict)
    paths: dict[tuple[int, int], list[Path]] = field(default_factory=lambda: defaultdict(list))

    def add(self, found: Found) -> None:
        self.size[found.inode] = found.size
        self.used_at[found.inode] = found.used_at
        self.paths[found.inode].append(found.path)

    @property
    def bytes(self) -> int:
        return sum(self.size.values())


class Room:
    """Makes room by removing what was not used for longest, never what somebody needs."""

    def __init__(
        self, folder: Path, grants: Grants, limit: int | None, min_free_bytes: int
    ) -> None:
        self._folder = folder
        self._grants = grants
        self._limit = limit
        self._min_free = min_free_bytes
        self._reserved: dict[Path, int] = {}
        self._targets: dict[Path, int] = {}
        self._deciding = asyncio.Lock()

    @asynccontextmanager
    async def reserved(self, part: Path, target: Path, size: int) -> AsyncIterator[None]:
        """Room for ``part``, which will have so many bytes and then be ``target``.

        StorageFullError("disk_full") when the disk has no room whatever goes,
        UnavailableError("lora_cache") while others need what is there.
        """
        async with self._deciding:
            await self._make(size)
            self._reserved[part] = size
            self._targets[target] = self._targets.get(target, 0) + 1
        try:
            yield
        finally:
            del self._reserved[part]
            self._targets[target] -= 1
            if not self._targets[target]:
                del self._targets[target]

    async def _make(self, size: int) -> None:
        usage, free = await in_thread(self._look)
        if self._lacking(usage.bytes, free, size) == 0:
            return
        stay, later = await self._grants.needed()
        kept = {*stay, *self._grants.held_here()}
        for inode in self._in_order(usage, kept, later):
            if self._lacking(usage.bytes, free, size) == 0:
                return
            gone = usage.size.pop(inode)
            await in_thread(remove_all, usage.paths[inode])
            free += gone
            log.info("lora.evicted", extra={"file": usage.paths[inode][0].name, "bytes": gone})
        if (lacking := self._lacking(usage.bytes, free, size)) == 0:
            return
        if usage.bytes + sum(self._reserved.values()) >= lacking:
            raise UnavailableError(
                "lora_cache", "ComfyUI's disk has no room until another run has ended."
            )
        raise StorageFullError(
            "disk_full",
            f"The LoRA has {size} bytes; ComfyUI's disk has {max(0, size - lacking)} left.",
            {"system": "lora_folder", "needed": size, "free": free},
        )

    def _in_order(
        self, usage: _Usage, kept: Iterable[PurePosixPath], later: Iterable[PurePosixPath]
    ) -> Sequence[tuple[int, int]]:
        """What may go: last used first, and after all of it what queued runs will want."""
        staying = {self._folder / path for path in kept} | self._reserved.keys()
        wanted = {self._folder / path for path in later}
        may_go = [inode for inode, paths in usage.paths.items() if not staying.intersection(paths)]
        return sorted(
            may_go,
            key=lambda inode: (
                bool(wanted.intersection(usage.paths[inode])),
                usage.used_at[inode],
            ),
        )

    def _lacking(self, used: int, free: int, size: int) -> int:
        """How many bytes are too few: of the limit, or of what must stay free on the disk."""
        promised = sum(self._reserved.values())
        over = 0 if self._limit is None else used + promised + size - self._limit
        return max(0, over, self._min_free + promised + size - free)

    def _look(self) -> tuple[_Usage, int]:
        """What is there without the files that have room reserved, parts or landed just now, and
        what would be free without them."""
        usage = _Usage()
        free = shutil.disk_usage(self._folder).free
        for found in found_in(self._folder):
            if found.path in self._reserved or found.path in self._targets:
                free += found.size
            else:
                usage.add(found)
        return usage, free

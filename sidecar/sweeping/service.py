"""One sweep: objects without rows, rows without objects, uploads that expired, stale parts.

Every key is new (ADR 0012): an object that is older than a day and that no row names by then will
never be named. What belongs to somebody is looked up as that somebody.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from ..blobs import BlobEntry, BlobStore
from ..clock import Clock
from ..loras.disk import LoraSync
from ..loras.objects import LoraObjects
from ..runs.objects import RunObjects
from ..uploads.expiry import UploadExpiry

GRACE = timedelta(days=1)
"""Longer than any upload takes between its bytes and its row."""
_RUNS_AT_ONCE = 500

log = logging.getLogger(__name__)


@dataclass
class Swept:
    """What a sweep removed, or would remove: names by kind, and the bytes of objects."""

    found: dict[str, list[str]] = field(default_factory=dict)
    bytes: int = 0

    def add(self, kind: str, names: Sequence[str]) -> None:
        """Note these."""
        self.found.setdefault(kind, []).extend(names)


class Sweeper:
    """Sweeps one studio's blob store, and one pair's disk."""

    def __init__(
        self,
        blobs: BlobStore,
        sync: LoraSync,
        loras: LoraObjects,
        runs: RunObjects,
        uploads: UploadExpiry,
        clock: Clock,
    ) -> None:
        self._blobs = blobs
        self._sync = sync
        self._loras = loras
        self._runs = runs
        self._uploads = uploads
        self._clock = clock

    async def sweep(self, *, dry_run: bool = False) -> Swept:
        """Do all of it; UnavailableError when a store is away, and what is done stays done."""
        swept = Swept()
        before = self._clock.now() - GRACE
        parts: tuple[tuple[str, Callable[[], Awaitable[Sequence[str]]]], ...] = (
            ("parts of the store", lambda: self._blobs.sweep_parts(before, dry_run=dry_run)),
            ("parts on ComfyUI's disk", lambda: self._sync.sweep_parts(before, dry_run=dry_run)),
            (
                "expired uploads",
                lambda: self._uploads.sweep(self._clock.now(), dry_run=dry_run),
            ),
        )
        for kind, work in parts:
            swept.add(kind, await work())
        for owner_id in sorted({*await self._loras.owners(), *await self._in_store()}, key=str):
            await self._sweep_owner(owner_id, swept, dry_run=dry_run)
        log.info("studio.swept", extra={kind: len(names) for kind, names in swept.found.items()})
        return swept

    async def _in_store(self) -> set[UUID]:
        """Whose objects there are; what is nobody's is not ours."""
        owners = set()
        async for entry in self._blobs.entries("user-"):
            folder = entry.key.partition("/")[0]
            try:
                owners.add(UUID(folder.removeprefix("user-")))
            except ValueError:
                continue
        return owners

    async def _sweep_owner(self, owner_id: UUID, swept: Swept, *, dry_run: bool) -> None:
        before = self._clock.now() - GRACE
        folder = f"user-{owner_id}/"
        found = {entry.key: entry async for entry in self._blobs.entries(folder)}
        # read after the listing: what is old and unnamed now stays so
        versions = await self._loras.named(owner_id)
        named = {each.key for each in versions}
        strays = [
            entry
            for key, entry in found.items()
            if key.startswith(f"{folder}loras/") and key not in named
        ]
        strays += [entry async for entry in self._of_lost_runs(owner_id, found.values())]
        for entry in strays:
            if entry.stored_at < before:
                swept.add("objects without a row", [entry.key])
                swept.bytes += entry.size
                if not dry_run:
                    await self._blobs.delete(entry.key)
        for each in versions:
            if each.key not in found and await self._blobs.size(each.key) is None:
                swept.add("versions without an object", [each.key])
                if not dry_run:
                    await self._loras.lost(owner_id, each)

    async def _of_lost_runs(
        self, owner_id: UUID, entries: Iterable[BlobEntry]
    ) -> AsyncIterator[BlobEntry]:
        """Outputs of runs that have been deleted."""
        of_run: dict[UUID, list[BlobEntry]] = {}
        for entry in entries:
            _, kind, rest = (*entry.key.split("/", 2), "", "")[:3]
            try:
                if kind == "runs":
                    of_run.setdefault(UUID(rest.partition("/")[0]), []).append(entry)
            except ValueError:
                continue
        ids = list(of_run)
        for start in range(0, len(ids), _RUNS_AT_ONCE):
            some = ids[start : start + _RUNS_AT_ONCE]
            for run_id in {*some} - await self._runs.there(owner_id, some):
                for entry in of_run[run_id]:
                    yield entry

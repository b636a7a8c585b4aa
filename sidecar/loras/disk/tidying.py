"""What accounts' folders on ComfyUI's disk should hold, whatever somebody did to them."""

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from uuid import UUID

from ...durable import in_thread
from ...errors import AtelierError
from ..models import LoraPin
from ..names import SUFFIX
from .files import UNKNOWN, found_in, signature, translated
from .sync import LoraSync

log = logging.getLogger(__name__)


class Tidier:
    """Sets the folder right.

    A file that is needed now and is gone or wrong is fetched again. A wrong one that nobody needs
    is removed. One that nobody's library knows is renamed, so that ComfyUI does not list it, unless
    it is a copy of ours that has outlived its LoRA: that is removed.
    """

    def __init__(self, sync: LoraSync) -> None:
        self._sync = sync

    async def scan(self) -> None:
        """Look at every file, and for every file that must be there.

        Files that were read before are read again where they have changed. Others are taken for
        what they say when their size is right: whoever needs one has it read first.
        """
        with translated():
            found = await in_thread(lambda: [*found_in(self._sync.folder)])
        needed, _ = await self._sync.grants.needed()
        paths = {each.path for each in found if each.path.name.endswith(SUFFIX)}
        await self._look(paths, needed, is_change=False)
        for path, pin in needed.items():
            if self._sync.folder / path not in paths:
                await self._bring(pin)

    async def look(self, paths: Collection[Path]) -> None:
        """Look at files that somebody has just changed, made or removed."""
        needed, _ = await self._sync.grants.needed()
        await self._look(paths, needed, is_change=True)

    async def _look(
        self,
        paths: Collection[Path],
        needed: Mapping[PurePosixPath, LoraPin],
        *,
        is_change: bool,
    ) -> None:
        for owner_id, files in self._by_owner(paths).items():
            known = await self._sync.records.known(owner_id, [file.name for file in files])
            for file in files:
                place = PurePosixPath(file.parent.name, file.name)
                pin = needed.get(place) or known.get(file.name)
                await self._guarded(
                    file, partial(self._set_right, file, pin, place in needed, is_change)
                )

    def _by_owner(self, paths: Collection[Path]) -> dict[UUID, list[Path]]:
        owners: dict[UUID, list[Path]] = defaultdict(list)
        for path in paths:
            if path.parent.parent != self._sync.folder or not path.name.endswith(SUFFIX):
                continue
            try:
                owners[UUID(path.parent.name.removeprefix("user-"))].append(path)
            except ValueError:
                continue  # a folder of somebody else's making
        return owners

    async def _set_right(
        self, file: Path, pin: LoraPin | None, is_needed: bool, is_change: bool
    ) -> None:
        if self._sync.is_on_its_way(file):
            return
        found = await in_thread(signature, file)
        if pin is None:
            if found is not None:
                await self._disown(file)
            return
        if await self._sync.verified.is_as_it_was(file):
            return
        if found is not None:
            is_right = found[0] == pin.bytes
            if is_right and (is_change or await self._sync.verified.was_read(file)):
                is_right = await self._sync.verified.has(file, pin.sha256, pin.bytes)
            if is_right:
                return
            log.warning("lora.file_was_wrong", extra={"file": file.name})
            await in_thread(lambda: file.unlink(missing_ok=True))
        if is_needed:
            await self._sync.ensure(pin)

    async def _disown(self, file: Path) -> None:
        sha256 = await self._sync.verified.read(file)
        if self._sync.is_on_its_way(file):
            return
        if sha256 is not None and file.name.endswith(f".{sha256[:8]}{SUFFIX}"):
            await in_thread(lambda: file.unlink(missing_ok=True))
            return
        log.warning("lora.file_is_nobodys", extra={"file": file.name})
        aside = file.with_name(file.name + UNKNOWN)
        await in_thread(file.replace, aside)

    async def _bring(self, pin: LoraPin) -> None:
        await self._guarded(self._sync.folder / pin.path, lambda: self._sync.ensure(pin))

    async def _guarded(self, file: Path, work: Callable[[], Awaitable[object]]) -> None:
        """One file that cannot be set right now is no reason to leave the others."""
        try:
            with translated():
                await work()
        except AtelierError as error:
            log.warning("lora.file_not_tidied", extra={"file": file.name, "code": error.code})

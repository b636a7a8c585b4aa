"""The door to ComfyUI's disk: have a version's file there, whole, and nothing else."""

import asyncio
import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from uuid import UUID, uuid4
from weakref import WeakValueDictionary

from ...blobs import BlobStore
from ...durable import in_thread, land, make_folder
from ...errors import UnavailableError
from ..models import LoraPin
from ..names import SUFFIX
from .fetching import Fetcher, OnProgress
from .files import PART, found_in, remove_all, signature, translated
from .grants import Grants
from .records import NoRecords, Records
from .room import Room
from .verified import VerifiedFiles

ATTEMPTS = 3


@dataclass
class _Flight:
    """One fetch, and those who wait for it."""

    task: "asyncio.Task[None]"
    waiting: int = 0
    listeners: list[OnProgress] = field(default_factory=list)


class LoraSync:
    """Puts stored versions below ComfyUI's LoRA folder, each once, whole or not at all.

    Another sidecar may work on the same folder: parts have names of their own, and a part that
    somebody removed is fetched again. ``cache_bytes`` is the most that accounts' files may take
    together (None: no limit), ``min_free_bytes`` what stays free on that disk.
    """

    def __init__(
        self,
        blobs: BlobStore,
        folder: Path,
        records: Records | None = None,
        *,
        worker_id: str = "",
        cache_bytes: int | None = None,
        min_free_bytes: int = 0,
    ) -> None:
        self.folder = folder
        self.records = records or NoRecords()
        self.grants = Grants(self.records, worker_id, cache_bytes)
        self.verified = VerifiedFiles()
        self._room = Room(folder, self.grants, cache_bytes, min_free_bytes)
        self._fetcher = Fetcher(blobs, self.records)
        self._flights: dict[Path, _Flight] = {}
        # of two who want the same bytes in two places, one fetches
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def clean(self) -> None:
        """Remove the parts that a crash left; what is under way keeps its room. Call it once, at
        start, before anything is claimed."""
        with translated():
            await in_thread(self._clean)
        await self.grants.remember()

    async def sweep_parts(self, before: datetime, *, dry_run: bool) -> Sequence[str]:
        """Remove parts that were last written to before then, and name them."""
        with translated():
            found = await in_thread(lambda: [*found_in(self.folder)])
            stale = [
                each.path
                for each in found
                if each.path.name.endswith(PART) and each.used_at < before.timestamp()
            ]
            if not dry_run:
                await in_thread(remove_all, stale)
        return [f"{path.parent.name}/{path.name}" for path in stale]

    async def admit(self, run_id: UUID, pins: Sequence[LoraPin]) -> None:
        """Grant a run room for all its files at once; raises what Grants.admit raises."""
        await self.grants.admit(run_id, pins)

    def held(self, pins: Iterable[LoraPin]) -> AbstractAsyncContextManager[None]:
        """Nothing of this makes room for anything else while the block lasts."""
        return self.grants.held(pins)

    async def ensure(self, pin: LoraPin, on_progress: OnProgress | None = None) -> Path:
        """The version's file, fetched or repaired where needed.

        Any number of callers share one fetch; it stops when the last of them is cancelled.
        UpstreamError("blobs") when what is stored is not what was uploaded,
        StorageFullError("disk_full"), UnavailableError("blobs", "lora_folder" or "lora_cache").
        """
        target = self._target(pin)
        flight = self._flights.get(target)
        if flight is None:
            flight = _Flight(asyncio.create_task(self._bring(pin, target)))
            self._flights[target] = flight
            flight.task.add_done_callback(lambda _: self._landed(target, flight))
        flight.waiting += 1
        if on_progress is not None:
            flight.listeners.append(on_progress)
        try:
            await asyncio.wait({flight.task})
        finally:
            flight.waiting -= 1
            if on_progress is not None:
                flight.listeners.remove(on_progress)
            if flight.waiting == 0 and not flight.task.done():
                self._landed(target, flight)  # whoever asks from now on starts afresh
                flight.task.cancel()
                await asyncio.wait({flight.task})
        flight.task.result()
        return target

    def is_on_its_way(self, path: Path) -> bool:
        """Whether somebody is having this file put there."""
        return path in self._flights

    async def is_present(self, pin: LoraPin) -> bool:
        """Whether a file of the right size is there; its bytes are not read."""
        with translated():
            found = await in_thread(signature, self._target(pin))
        return found is not None and found[0] == pin.bytes

    async def remove(self, pin: LoraPin) -> None:
        """Remove the file; nothing happens when it is not there."""
        target = self._target(pin)
        with translated():
            await in_thread(lambda: target.unlink(missing_ok=True))

    def _target(self, pin: LoraPin) -> Path:
        folder, name = pin.path.parts
        return self.folder / folder / name

    def _landed(self, target: Path, flight: _Flight) -> None:
        if self._flights.get(target) is flight:
            del self._flights[target]
        if flight.task.done() and not flight.task.cancelled():
            flight.task.exception()  # seen, also when every caller was cancelled

    async def _bring(self, pin: LoraPin, target: Path) -> None:
        turn = self._turns.setdefault(pin.sha256, asyncio.Lock())
        with translated():
            async with self.held([pin]), turn:
                await in_thread(self._make_folder, target)
                if await self.verified.has(target, pin.sha256, pin.bytes):
                    await self.verified.use(target)
                    return
                # from here on ComfyUI must not list what is there
                await in_thread(lambda: target.unlink(missing_ok=True))
                if not await self._linked(pin, target):
                    await self._fetched(pin, target)
                await self.verified.landed(target, pin.sha256)

    async def _linked(self, pin: LoraPin, target: Path) -> bool:
        """Give the target the bytes of another file that has them: no byte is copied."""
        # also under another name, and in another account's folder
        pattern = f"user-*/*.{pin.sha256[:8]}{SUFFIX}"
        others = await in_thread(lambda: [*self.folder.glob(pattern)])
        for other in others:
            if other == target or not await self.verified.has(other, pin.sha256, pin.bytes):
                continue
            part = _part_of(target)
            try:
                await in_thread(os.link, other, part)
                await in_thread(land, part, target)
            except OSError:
                with suppress(OSError):
                    await in_thread(part.unlink)
                return False  # a file system without links, or one that has lost it meanwhile
            return True
        return False

    async def _fetched(self, pin: LoraPin, target: Path) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._fetched_once(pin, target, _part_of(target))
            except FileNotFoundError:  # another sidecar's clean() took the part
                if attempt == ATTEMPTS:
                    raise
            else:
                return

    async def _fetched_once(self, pin: LoraPin, target: Path, part: Path) -> None:
        try:
            async with self._room.reserved(part, target, pin.bytes):
                await self._fetcher.fetch(pin, part, lambda *far: self._tell(target, *far))
                await in_thread(land, part, target)
        finally:
            with suppress(OSError):
                await in_thread(lambda: part.unlink(missing_ok=True))

    def _tell(self, target: Path, done: int, size: int) -> None:
        flight = self._flights.get(target)
        for listener in list(flight.listeners) if flight else ():
            listener(done, size)

    def _make_folder(self, target: Path) -> None:
        """Make the folder; refuse a link out of ours."""
        make_folder(target.parent)
        if target.parent.resolve().parent != self.folder.resolve():
            raise UnavailableError(
                "lora_folder", "The account's folder for LoRAs is a link to somewhere else."
            )

    def _clean(self) -> None:
        for part in self.folder.glob(f"user-*/*{PART}"):
            with suppress(OSError):  # Windows: another sidecar is writing it
                part.unlink()


def _part_of(target: Path) -> Path:
    # chosen here and seen by nobody: no test needs to own it
    return target.with_name(f"{target.name}.{uuid4().hex[:8]}{PART}")

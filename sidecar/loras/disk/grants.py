"""Who may keep files on ComfyUI's disk: room is granted to a run for all of its files at once.

Files of runs that were granted room fit the limit together, so such runs never wait for each other.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import PurePosixPath
from uuid import UUID

from ...errors import StorageFullError, UnavailableError
from ..models import HeldFiles, LoraPin
from .records import Records


class Grants:
    """What must stay on the disk. Runs of other pairs are not ours to judge: theirs stays too."""

    def __init__(self, records: Records, worker_id: str, limit: int | None) -> None:
        self._records = records
        self._worker_id = worker_id
        self._limit = limit
        self._granted: set[UUID] = set()
        self._here: dict[PurePosixPath, int] = {}
        self._deciding = asyncio.Lock()

    async def remember(self) -> None:
        """Runs that this pair has claimed by now were granted room by an earlier process."""
        self._granted = {
            run.run_id for run in await self._claimed() if run.worker_id == self._worker_id
        }

    async def admit(self, run_id: UUID, pins: Sequence[LoraPin]) -> None:
        """Grant a claimed run the room of its files; does nothing when it has it.

        StorageFullError("lora_cache_full") when they alone are more than the limit,
        UnavailableError("lora_cache") until other runs end.
        """
        if self._limit is None or not pins:
            return
        if (own := _bytes(pins)) > self._limit:
            raise StorageFullError(
                "lora_cache_full",
                f"The run's LoRAs have {own} bytes; ComfyUI's disk may hold {self._limit}.",
                {"system": "lora_folder", "needed": own, "max_bytes": self._limit},
            )
        async with self._deciding:
            claimed = await self._claimed()
            granted = self._still_granted(claimed)
            if run_id in granted:
                return
            others = [pin for run in claimed if run.run_id in granted for pin in run.pins]
            if _bytes([*others, *pins]) > self._limit:
                raise UnavailableError(
                    "lora_cache", "ComfyUI's disk has no room until another run has ended."
                )
            granted.add(run_id)

    @asynccontextmanager
    async def held(self, pins: Iterable[LoraPin]) -> AsyncIterator[None]:
        """Keep files while the block lasts: somebody is about to need them, and no run says so."""
        paths = [pin.path for pin in pins]
        for path in paths:
            self._here[path] = self._here.get(path, 0) + 1
        try:
            yield
        finally:
            for path in paths:
                self._here[path] -= 1
                if not self._here[path]:
                    del self._here[path]

    async def needed(self) -> tuple[dict[PurePosixPath, LoraPin], set[PurePosixPath]]:
        """Files that must stay, and those that runs will want whose turn has not come."""
        every = await self._records.held()
        claimed = [run for run in every if run.worker_id is not None]
        granted = self._still_granted(claimed)
        stay: dict[PurePosixPath, LoraPin] = {}
        later: set[PurePosixPath] = set()
        for run in every:
            elsewhere = run.worker_id not in (None, self._worker_id)
            if elsewhere or run.run_id in granted:
                stay |= {pin.path: pin for pin in run.pins}
            else:
                later |= {pin.path for pin in run.pins}
        return stay, later - stay.keys()

    def held_here(self) -> set[PurePosixPath]:
        """What blocks of ``held`` keep."""
        return set(self._here)

    async def _claimed(self) -> list[HeldFiles]:
        return [run for run in await self._records.held() if run.worker_id is not None]

    def _still_granted(self, claimed: Sequence[HeldFiles]) -> set[UUID]:
        ours = {run.run_id for run in claimed if run.worker_id == self._worker_id}
        self._granted = ours if self._limit is None else self._granted & ours
        return self._granted


def _bytes(pins: Iterable[LoraPin]) -> int:
    """Of all of them; equal bytes are one file."""
    return sum({pin.sha256: pin.bytes for pin in pins}.values())

"""The bytes of uploads: appended, and counted only when they are on the disk for good."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import BinaryIO
from uuid import UUID
from weakref import WeakValueDictionary

from ..durable import disk_errors, drain, in_thread, make_folder, opened
from ..errors import ConflictError
from .models import Checksum

SYNC_BYTES = 32 << 20
"""After so many bytes at most they are forced to the disk: what a power cut may cost."""
MARK = ".synced"


class UploadFiles:
    """A file per upload, and beside it how much of it was forced to the disk.

    A file system may show bytes after a power cut that were never written. What a mark does not
    cover is cut off when a process first looks at a file, and the client sends it again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[UUID, int] = {}
        self._turns: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    def path(self, upload_id: UUID) -> Path:
        """Where its bytes are."""
        return self._folder / str(upload_id)

    async def make(self, upload_id: UUID) -> None:
        """Make it, empty."""
        with translated():
            await in_thread(self._make, upload_id)
        self._offsets[upload_id] = 0

    async def offset(self, upload_id: UUID) -> int:
        """How many bytes there are for good."""
        if upload_id not in self._offsets:
            with translated():
                self._offsets[upload_id] = await in_thread(self._cut_back, upload_id)
        return self._offsets[upload_id]

    async def append(
        self,
        upload_id: UUID,
        offset: int,
        chunks: AsyncIterator[bytes],
        checksum: Checksum | None,
    ) -> bool:
        """Append all of it, and whether it is what the checksum says.

        What has arrived stays when the stream fails or this is cancelled; with a checksum it goes,
        as it does when it is wrong. ConflictError("wrong_offset") when the bytes that are there end
        elsewhere: one at a time, so that none are written in another's place.
        """
        async with self._turns.setdefault(upload_id, asyncio.Lock()):
            there = await self.offset(upload_id)
            if offset != there:
                raise ConflictError(
                    "wrong_offset",
                    f"{there} bytes are there, the chunk begins at {offset}.",
                    {"offset": there},
                )
            with translated():
                async with opened(self.path(upload_id), "r+b") as file:
                    file.seek(offset)
                    return await self._appended(upload_id, file, offset, chunks, checksum)

    async def _appended(
        self,
        upload_id: UUID,
        file: BinaryIO,
        offset: int,
        chunks: AsyncIterator[bytes],
        checksum: Checksum | None,
    ) -> bool:
        is_good = checksum is None
        try:
            if checksum is None:
                await self._write(upload_id, file, chunks)
            else:
                digest = hashlib.new(checksum.algorithm)
                await drain(chunks, file.write, digest.update)
                is_good = digest.digest() == checksum.digest
        finally:
            # it ends before this does, however often this is cancelled
            await in_thread(self._keep if is_good else self._drop, upload_id, file, offset)
        return is_good

    async def head(self, upload_id: UUID, size: int) -> bytes:
        """Its first bytes, so many at most."""
        with translated():
            async with opened(self.path(upload_id)) as file:
                return await in_thread(file.read, size)

    async def remove(self, upload_id: UUID) -> None:
        """Remove it; nothing happens when it is not there."""
        self._offsets.pop(upload_id, None)
        with translated():
            await in_thread(self._remove, upload_id)

    async def ids(self) -> set[UUID]:
        """Every upload that has a file or a mark."""
        with translated():
            names = await in_thread(lambda: [path.name for path in self._folder.glob("*")])
        found = set()
        for name in names:
            with suppress(ValueError):  # somebody else's
                found.add(UUID(name.removesuffix(MARK)))
        return found

    async def age(self, upload_id: UUID, now: datetime) -> timedelta:
        """How long ago it was last written to; for ever where only its mark is left."""
        try:
            written = await in_thread(lambda: self.path(upload_id).stat().st_mtime)
        except FileNotFoundError:
            return timedelta.max
        return now - datetime.fromtimestamp(written, timezone.utc)

    async def _write(self, upload_id: UUID, file: BinaryIO, chunks: AsyncIterator[bytes]) -> None:
        """Each chunk at once: of what waits for more to come nothing would be left after a cut."""
        unsynced = 0
        async for chunk in chunks:
            await in_thread(file.write, chunk)
            unsynced += len(chunk)
            if unsynced >= SYNC_BYTES:
                await in_thread(self._keep, upload_id, file, 0)
                unsynced = 0

    def _keep(self, upload_id: UUID, file: BinaryIO, _before: int) -> None:
        """Force what was written to the disk, and say so."""
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
        mark = self._mark(upload_id)
        part = mark.with_name(mark.name + ".part")
        part.write_text(str(size))
        part.replace(mark)
        self._offsets[upload_id] = size

    def _drop(self, upload_id: UUID, file: BinaryIO, before: int) -> None:
        with suppress(OSError):
            file.flush()
        file.truncate(before)
        self._offsets[upload_id] = before

    def _make(self, upload_id: UUID) -> None:
        make_folder(self._folder)
        self.path(upload_id).open("xb").close()

    def _cut_back(self, upload_id: UUID) -> int:
        try:
            marked = int(self._mark(upload_id).read_text() or 0)
        except (FileNotFoundError, ValueError):
            marked = 0
        path = self.path(upload_id)
        if not path.exists():
            return 0
        size = min(marked, path.stat().st_size)
        os.truncate(path, size)
        return size

    def _remove(self, upload_id: UUID) -> None:
        for path in (self.path(upload_id), self._mark(upload_id)):
            path.unlink(missing_ok=True)

    def _mark(self, upload_id: UUID) -> Path:
        return self._folder / f"{upload_id}{MARK}"


def translated() -> AbstractContextManager[None]:
    """StorageFullError or UnavailableError("uploads") for what the disk says."""
    return disk_errors("uploads", "The folder for uploads cannot be used.")

"""One file from the blob store onto ComfyUI's disk, however often the connection breaks."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO, TypeAlias

from ...blobs import BlobStore
from ...durable import drain, in_thread, new_file
from ...errors import NotFoundError, UnavailableError, UpstreamError
from ..models import LoraPin
from .records import Records

OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with the bytes fetched and the bytes there are."""

PAUSES = (0.1, 0.4, 1.6)
"""Between attempts that bring nothing; after the last one it is the run's affair to wait."""
_MISSING = "missing"
_ALTERED = "altered"


class Fetcher:
    """Fetches files, and says when the store does not have what was uploaded."""

    def __init__(self, blobs: BlobStore, records: Records) -> None:
        self._blobs = blobs
        self._records = records

    async def fetch(self, pin: LoraPin, part: Path, on_progress: OnProgress) -> None:
        """Write the version's bytes into ``part``, a new file, durably.

        A broken connection goes on where it broke. UpstreamError("blobs") when the store has other
        bytes twice or none, and the version is marked; UnavailableError("blobs").
        """
        try:
            async with new_file(part) as file:
                if await self._filled(pin, file, on_progress):
                    return
                # a bit may have turned on the way: once more from the beginning
                await in_thread(_emptied, file)
                if await self._filled(pin, file, on_progress):
                    return
                raise await self._is(_ALTERED, pin)
        except NotFoundError:
            raise await self._is(_MISSING, pin) from None

    async def _filled(self, pin: LoraPin, file: BinaryIO, on_progress: OnProgress) -> bool:
        """Whether the file has the right bytes now, all of them."""
        digest = hashlib.sha256()
        fruitless = 0
        while True:
            done = file.tell()
            try:
                async with self._blobs.open(pin.object_key, done) as chunks:
                    counted = _counted(chunks, done, pin.bytes, on_progress)
                    await drain(counted, file.write, digest.update)
            except _TooLongError:
                return False
            except UnavailableError as error:
                fruitless = 0 if file.tell() > done else fruitless + 1
                if error.details["system"] != "blobs" or fruitless > len(PAUSES):
                    raise
                await asyncio.sleep(PAUSES[fruitless - 1] if fruitless else 0)
            else:
                return file.tell() == pin.bytes and digest.hexdigest() == pin.sha256

    async def _is(self, what: str, pin: LoraPin) -> UpstreamError:
        await self._records.damaged(pin, what)
        said = "is missing" if what == _MISSING else "is not what was uploaded"
        return UpstreamError(
            "blobs",
            f"The stored file of '{pin.name}' {said}. Its owner can upload it again.",
            {"name": pin.name, "version": pin.version, "sha256": pin.sha256, "reason": what},
        )


class _TooLongError(Exception):
    """The store gives more bytes than were uploaded."""


async def _counted(
    chunks: AsyncIterator[bytes], done: int, size: int, on_progress: OnProgress
) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        done += len(chunk)
        if done > size:
            raise _TooLongError
        on_progress(done, size)
        yield chunk


def _emptied(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()

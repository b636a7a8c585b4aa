"""Files, from one blob store to another: each whole, compared, and never overwritten."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from ..blobs import BlobStore, checked_key
from ..durable import in_thread
from ..errors import NotFoundError, UnavailableError
from .source import NamedBlob

Say = Callable[[str], None]

_AT_ONCE = 4
"""While one waits for its disk, others are read."""
_SHORT = 1 << 16
"""Hashing so little takes less time than the way to a thread."""
_SAY_FILES = 1000
_SAY_BYTES = 1 << 30


class _TroubleError(Exception):
    """Why one file is not at the destination as it should be."""


@dataclass
class Files:
    """What has become of the files."""

    copied: int = 0
    already: int = 0
    bytes: int = 0
    """Of both kinds."""
    troubles: list[str] = field(default_factory=list)
    """A line for each that is not there as it should be; the others are not stopped by it."""
    ignored: list[str] = field(default_factory=list)
    """Files in the source's folder that are no blobs, by their names."""


@dataclass(frozen=True)
class _Bytes:
    size: int
    sha256: str


class FileMove:
    """Moves the files of a studio."""

    def __init__(
        self, source: BlobStore, target: BlobStore, named: Mapping[str, NamedBlob], say: Say
    ) -> None:
        self._source = source
        self._target = target
        self._named = named
        self._say = say
        self._files = Files()
        self._total = 0
        self._said = 0, 0

    async def copy(self) -> Files:
        """Copy every file that the source has or a row names, a few at once.

        StorageFullError and UnavailableError("blobs") when the target takes no more: what is there
        by then stays, whole.
        """
        found = [entry.key async for entry in self._source.entries("")]
        self._files.ignored += [key for key in found if not _is_key(key)]
        wanted = sorted({*filter(_is_key, found), *_keys(self._named, self._files)})
        self._total = len(wanted)
        left = iter(wanted)
        workers = [asyncio.create_task(self._work(left)) for _ in range(_AT_ONCE)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        self._files.troubles.sort()
        return self._files

    async def _work(self, left: Iterator[str]) -> None:
        for key in left:
            try:
                await self._move(key)
            except NotFoundError:
                self._files.troubles.append(f"{key}: missing")
            except _TroubleError as error:
                self._files.troubles.append(f"{key}: {error}")
            self._tell()

    async def _move(self, key: str) -> None:
        row = self._named.get(key, NamedBlob(None, None))
        is_there = await self._target.size(key) is not None
        if row.sha256 is None or row.size is None:
            async with self._opened(key) as chunks:
                expected = await _measured(chunks)
        else:
            expected = _Bytes(row.size, row.sha256)
        if not is_there:
            async with self._opened(key) as chunks:
                await self._target.put(key, _checked(chunks, expected))
        async with self._target.open(key) as chunks:
            arrived = await _measured(chunks)
        if arrived != expected:
            raise _TroubleError("the destination has other bytes under this name; they were kept")
        self._files.copied += not is_there
        self._files.already += is_there
        self._files.bytes += expected.size

    @asynccontextmanager
    async def _opened(self, key: str) -> AsyncIterator[AsyncIterator[bytes]]:
        async with AsyncExitStack() as stack:
            with _unreadable():
                chunks = await stack.enter_async_context(self._source.open(key))
            yield _read(chunks)

    def _tell(self) -> None:
        files = self._files
        done = files.copied + files.already + len(files.troubles)
        if done - self._said[0] >= _SAY_FILES or files.bytes - self._said[1] >= _SAY_BYTES:
            self._said = done, files.bytes
            self._say(f"files: {done} of {self._total}, {files.bytes} bytes")


async def look(source: BlobStore, named: Mapping[str, NamedBlob]) -> Files:
    """Whether each file that a row names is there with its size; nothing is copied."""
    files = Files()
    for key in sorted(_keys(named, files)):
        row, size = named[key], await source.size(key)
        if size is None:
            files.troubles.append(f"{key}: missing")
        elif row.size not in (None, size):
            files.troubles.append(f"{key}: has {size} bytes, its row says {row.size}")
        else:
            files.already += 1
            files.bytes += size
    return files


def _keys(named: Mapping[str, NamedBlob], files: Files) -> Sequence[str]:
    files.troubles += [f"{key}: no store takes this name" for key in named if not _is_key(key)]
    return [key for key in named if _is_key(key)]


def _is_key(key: str) -> bool:
    try:
        checked_key(key)
    except ValueError:
        return False
    return True


async def _measured(chunks: AsyncIterator[bytes]) -> _Bytes:
    digest, size = hashlib.sha256(), 0
    async for chunk in chunks:
        await _hash(digest, chunk)
        size += len(chunk)
    return _Bytes(size, digest.hexdigest())


async def _checked(chunks: AsyncIterator[bytes], expected: _Bytes) -> AsyncIterator[bytes]:
    """The chunks; fails at their end when they are not what is expected, so that none are kept."""
    digest, size = hashlib.sha256(), 0
    async for chunk in chunks:
        await _hash(digest, chunk)
        size += len(chunk)
        yield chunk
    if _Bytes(size, digest.hexdigest()) != expected:
        raise _TroubleError("damaged: these are not the bytes that its row names")


async def _hash(digest: "hashlib._Hash", chunk: bytes) -> None:
    if len(chunk) < _SHORT:
        digest.update(chunk)
    else:
        await in_thread(digest.update, chunk)


async def _read(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    with _unreadable():
        async for chunk in chunks:
            yield chunk


@contextmanager
def _unreadable() -> Iterator[None]:
    """One file that the source's disk does not give is no reason to leave the others behind."""
    try:
        yield
    except UnavailableError:
        raise _TroubleError("cannot be read") from None

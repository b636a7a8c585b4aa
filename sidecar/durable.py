"""How bytes land on a disk: whole or not at all, and without stopping the event loop.

Threads cannot be cancelled. Every function here that uses one has seen it end before it returns or
raises, so that the caller may close and remove what the thread worked on.
"""

import asyncio
import errno
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from .errors import StorageFullError, UnavailableError

T = TypeVar("T")

BATCH_BYTES = 1 << 20
"""One hop to a thread for so many bytes: small against the time that hashing them takes."""

_NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


@contextmanager
def disk_errors(system: str, message: str) -> Iterator[None]:
    """Turn what a disk says into StorageFullError("disk_full") or UnavailableError(system).

    A connection that broke or timed out passes through: it is the source's affair.
    """
    try:
        yield
    except (ConnectionError, TimeoutError):
        raise
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageFullError(
                "disk_full", "There is no room left on the disk.", {"system": system}
            ) from error
        raise UnavailableError(system, message) from error


async def in_thread(function: Callable[..., T], *args: Any, pool: Executor | None = None) -> T:
    """Run blocking code in a thread, to its end, whether this is cancelled or not.

    Without ``pool`` it is one of the event loop's own threads.
    """
    job = asyncio.get_running_loop().run_in_executor(pool, partial(function, *args))
    await _ended([job])
    return job.result()


async def drain(chunks: AsyncIterable[bytes], *takers: Callable[[bytes], object]) -> int:
    """Hand every byte to each taker, in order, and answer how many there were.

    The takers of a batch run side by side in threads while the next batch arrives. Holds three
    batches of ``BATCH_BYTES`` at most, or of one chunk where chunks are larger.
    """
    loop = asyncio.get_running_loop()
    jobs: list[asyncio.Future[object]] = []
    total = 0
    try:
        async with aclosing(_batches(chunks)) as batches:
            async for batch in batches:
                await _results(jobs)
                jobs = [loop.run_in_executor(None, taker, batch) for taker in takers]
                total += len(batch)
        await _results(jobs)
    finally:
        await _ended(jobs)
    return total


async def alongside(
    chunks: AsyncIterable[bytes], *takers: Callable[[bytes], object]
) -> AsyncGenerator[bytes, None]:
    """Pass every byte on, a batch at a time, and hand it to each taker too, in order.

    The takers of a batch run in threads while whoever reads this works on the same batch; all have
    ended when the next one is given out.
    """
    loop = asyncio.get_running_loop()
    jobs: list[asyncio.Future[object]] = []
    try:
        async with aclosing(_batches(chunks)) as batches:
            async for batch in batches:
                await _results(jobs)
                jobs = [loop.run_in_executor(None, taker, batch) for taker in takers]
                yield batch
        await _results(jobs)
    finally:
        await _ended(jobs)


async def read_file(file: BinaryIO, length: int | None = None) -> AsyncIterator[bytes]:
    """Read on from where ``file`` stands, at most ``length`` bytes, a batch at a time."""
    while length is None or length > 0:
        want = BATCH_BYTES if length is None else min(BATCH_BYTES, length)
        chunk = await in_thread(file.read, want)
        if not chunk:
            return
        if length is not None:
            length -= len(chunk)
        yield chunk


@asynccontextmanager
async def opened(path: Path, mode: str = "rb") -> AsyncIterator[BinaryIO]:
    """An open file, closed at the end of the block."""
    files: list[BinaryIO] = []
    try:
        await in_thread(lambda: files.append(path.open(mode)))  # type: ignore[arg-type]
        yield files[0]
    finally:
        for file in files:
            await in_thread(_close, file)


@asynccontextmanager
async def new_file(path: Path) -> AsyncIterator[BinaryIO]:
    """A file that is made here, never an existing one or what a link points at.

    It is durable when the block ends, and gone when the block fails.
    """
    made: list[BinaryIO] = []
    try:
        await in_thread(lambda: made.append(path.open("xb")))
        yield made[0]
        await in_thread(_sync_and_close, made[0])
    except BaseException:
        for file in made:
            await in_thread(_discard, file, path)
        raise


def land(part: Path, target: Path) -> None:
    """Give a durable file its real name, for good: blocking.

    The folder is made where it is missing. FileNotFoundError when the part is gone.
    """
    while True:
        make_folder(target.parent)
        try:
            part.replace(target)
        except FileNotFoundError:
            # an empty folder may be tidied away between the two lines
            if target.parent.is_dir() or not part.exists():
                raise
            continue
        sync_folder(target.parent)
        return


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, durably: blocking."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_file(path: Path) -> None:
    """Wait until a file's bytes are on the disk: blocking."""
    with path.open("r+b") as file:  # Windows flushes writable handles only
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until a folder's names are on the disk: blocking."""
    if sys.platform == "win32":
        return  # a folder cannot be opened there; NTFS journals names itself
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


async def _batches(chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size >= BATCH_BYTES:
            yield parts[0] if len(parts) == 1 else b"".join(parts)
            parts, size = [], 0
    if size:
        yield b"".join(parts)


async def _results(jobs: list[asyncio.Future[object]]) -> None:
    await _ended(jobs)
    for job in jobs:
        job.result()


async def _ended(jobs: list[Any]) -> None:
    """Wait for all of them, however often this is cancelled meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    while waiting := [job for job in jobs if not job.done()]:
        try:
            await asyncio.wait(waiting)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        for job in jobs:
            job.exception()  # or asyncio reports it as never seen
        raise cancelled


def _close(file: BinaryIO) -> None:
    file.close()


def _sync_and_close(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()


def _discard(file: BinaryIO, path: Path) -> None:
    with suppress(OSError):
        file.close()  # flushes, which a full disk refuses again
    with suppress(OSError):
        path.unlink(missing_ok=True)

"""How bytes land on a disk: threads end before what they use is closed."""

import asyncio
import errno
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.durable import BATCH_BYTES, disk_errors, drain, in_thread, land, new_file
from sidecar.errors import StorageFullError, UnavailableError


async def chunks_of(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"x" * size


async def test_small_chunks_are_handed_on_in_batches() -> None:
    batches: list[int] = []
    total = await drain(chunks_of(*[1000] * 3000), lambda batch: batches.append(len(batch)))
    assert total == sum(batches) == 3_000_000
    assert min(batches[:-1]) >= BATCH_BYTES


async def test_a_cancelled_call_ends_after_its_thread() -> None:
    begun, may_end = threading.Event(), threading.Event()
    ended = False

    def work() -> None:
        nonlocal ended
        begun.set()
        may_end.wait()
        ended = True

    task = asyncio.create_task(in_thread(work))
    while not begun.is_set():  # noqa: ASYNC110 - set in a thread
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended


async def test_a_taker_that_fails_stops_the_stream() -> None:
    taken: list[int] = []

    def fails(_: bytes) -> None:
        raise OSError(errno.EIO, "broken")

    with pytest.raises(OSError, match="broken"):
        await drain(chunks_of(*[BATCH_BYTES] * 50), lambda batch: taken.append(len(batch)), fails)
    assert len(taken) <= 2


async def test_a_new_file_never_replaces_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"before")
    with pytest.raises(FileExistsError):
        async with new_file(path):
            raise AssertionError
    assert path.read_bytes() == b"before"


async def test_a_file_whose_block_fails_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(RuntimeError):  # noqa: PT012 - the block must have begun
        async with new_file(path) as file:
            file.write(b"half")
            raise RuntimeError
    assert not path.exists()


def test_landing_a_part_that_is_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        land(tmp_path / "gone", tmp_path / "folder" / "a")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_disk_without_room_is_full(number: int) -> None:
    with pytest.raises(StorageFullError), disk_errors("disk", "No."):
        raise OSError(number, "x")


def test_another_trouble_with_a_disk_makes_it_unavailable() -> None:
    with pytest.raises(UnavailableError, match="No"), disk_errors("disk", "No."):
        raise PermissionError(errno.EACCES, "x")


def test_a_broken_connection_is_not_the_disk_s_affair() -> None:
    with pytest.raises(ConnectionResetError), disk_errors("disk", "No."):
        raise ConnectionResetError

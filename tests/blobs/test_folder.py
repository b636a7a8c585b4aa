"""Blobs in a folder: what is particular to files."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from full_disk import files_up_to

from sidecar.blobs.folder import INCOMING, FolderBlobs
from sidecar.errors import StorageFullError, UnavailableError


async def chunks_of(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"x" * size


def files_in(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


async def test_what_a_crash_left_half_written_is_removed_at_start(tmp_path: Path) -> None:
    (tmp_path / INCOMING).mkdir()
    (tmp_path / INCOMING / "0.part").write_bytes(b"half")
    (tmp_path / "user-1").mkdir()
    (tmp_path / "user-1" / "whole").write_bytes(b"whole")
    await FolderBlobs(tmp_path).clean()
    assert files_in(tmp_path) == {"user-1/whole"}


async def test_nothing_is_visible_before_it_is_whole(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    seen: list[set[str]] = []

    async def source() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * (1 << 20)
            seen.append({entry.key async for entry in blobs.entries("")})

    await blobs.put("user-1/a", source())
    assert seen == [set()] * 3


async def test_folders_that_become_empty_go(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    await blobs.put("user-1/runs/1/0.png", chunks_of(1))
    await blobs.delete("user-1/runs/1/0.png")
    assert not (tmp_path / "user-1").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
async def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    with files_up_to(1 << 20), pytest.raises(StorageFullError) as caught:
        await blobs.put("a", chunks_of(1 << 20, 1 << 20, 1 << 20))
    assert caught.value.code == "disk_full"
    assert files_in(tmp_path) == set()


async def test_a_folder_that_is_none_is_named_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_bytes(b"a file")
    with pytest.raises(UnavailableError) as caught:
        await FolderBlobs(tmp_path / "blobs").put("a", chunks_of(1))
    assert caught.value.code == "blobs_unavailable"
    assert str(tmp_path) not in caught.value.message


async def test_the_loop_goes_on_while_a_slow_disk_writes(tmp_path: Path) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await FolderBlobs(tmp_path).put("a", chunks_of(*[4 << 20] * 4))
    counting.cancel()
    assert turns > 10

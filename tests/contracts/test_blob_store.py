"""What every BlobStore does, whichever it is."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from sidecar.blobs import BlobStore
from sidecar.blobs.folder import FolderBlobs
from sidecar.blobs.s3 import S3Blobs
from sidecar.errors import NotFoundError

MAX_BYTES = 1 << 30
MANY = [bytes(range(251)) * 4001] * 26
"""More than three parts of a multipart upload, with the end of one in the middle of a chunk."""


@pytest.fixture(params=["folder", "s3"])
async def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    if request.param == "folder":
        folder = FolderBlobs(tmp_path / "blobs")
        await folder.clean()
        yield folder
    else:
        address = request.getfixturevalue("s3_server").address(request.getfixturevalue("bucket"))
        store = S3Blobs(address, max_bytes=MAX_BYTES)
        await store.clean()
        yield store
        await store.close()


async def each(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def read(blobs: BlobStore, key: str, start: int = 0, length: int | None = None) -> bytes:
    async with blobs.open(key, start, length) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def keys(blobs: BlobStore, prefix: str = "") -> set[str]:
    return {entry.key async for entry in blobs.entries(prefix)}


@pytest.mark.parametrize(
    "chunks", [[], [b"abc"], [b"x" * 5] * 1000, [b"y" * (3 << 20), b"z", b"w" * (1 << 20)], MANY]
)
async def test_what_is_put_is_what_is_read(blobs: BlobStore, chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    assert await blobs.put("user-1/a.bin", each(chunks)) == len(whole)
    assert await blobs.size("user-1/a.bin") == len(whole)
    assert await read(blobs, "user-1/a.bin") == whole


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [(0, 3, b"012"), (4, None, b"456789"), (8, 100, b"89"), (10, None, b""), (3, 0, b"")],
)
async def test_a_range_is_read(
    blobs: BlobStore, start: int, length: int | None, expected: bytes
) -> None:
    await blobs.put("a", each([b"0123456789"]))
    assert await read(blobs, "a", start, length) == expected


async def test_what_is_not_there_has_no_size_and_cannot_be_opened(blobs: BlobStore) -> None:
    await blobs.put("user-1/a", each([b"x"]))
    for key in ("user-2/a", "user-1", "user-1/a/b"):
        assert await blobs.size(key) is None
        with pytest.raises(NotFoundError, match="blob"):
            await read(blobs, key)


async def test_an_error_of_the_reader_stays_the_reader_s(blobs: BlobStore) -> None:
    await blobs.put("a", each([b"x"]))
    with pytest.raises(FileNotFoundError):
        async with blobs.open("a"):
            raise FileNotFoundError


async def test_a_source_that_fails_leaves_nothing(blobs: BlobStore) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"x" * (2 << 20)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await blobs.put("user-1/a", source())
    assert await blobs.size("user-1/a") is None
    assert await keys(blobs) == set()


async def test_a_cancelled_put_leaves_nothing(blobs: BlobStore) -> None:
    started = asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        yield b"x" * (2 << 20)
        started.set()
        await asyncio.Event().wait()

    putting = asyncio.create_task(blobs.put("a", source()))
    await started.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await keys(blobs) == set()


async def test_a_local_file_is_adopted_and_stays_for_who_begins_again(
    blobs: BlobStore, tmp_path: Path
) -> None:
    file = tmp_path / "elsewhere"
    file.write_bytes(b"from elsewhere")
    await blobs.adopt("user-1/loras/a", file)
    await blobs.adopt("user-1/loras/b", file)
    file.unlink()
    assert await read(blobs, "user-1/loras/a") == b"from elsewhere"
    assert await read(blobs, "user-1/loras/b") == b"from elsewhere"
    await blobs.delete("user-1/loras/a")
    assert await read(blobs, "user-1/loras/b") == b"from elsewhere"


async def test_a_deleted_blob_is_gone_and_deleting_again_is_no_error(blobs: BlobStore) -> None:
    await blobs.put("user-1/a", each([b"x"]))
    await blobs.delete("user-1/a")
    await blobs.delete("user-1/a")
    assert await blobs.size("user-1/a") is None


async def test_deleting_one_keeps_its_neighbours(blobs: BlobStore) -> None:
    await blobs.put("user-1/a", each([b"x"]))
    await blobs.put("user-1/b", each([b"y"]))
    await blobs.delete("user-1/a")
    assert await keys(blobs) == {"user-1/b"}


async def test_puts_and_deletes_side_by_side_lose_nothing(blobs: BlobStore) -> None:
    async def one(number: int) -> None:
        await blobs.put(f"user-1/{number}/a", each([b"x"]))
        await blobs.delete(f"user-1/{number}/a")
        await blobs.put(f"user-1/{number % 2}/kept-{number}", each([b"y"]))

    await asyncio.gather(*(one(number) for number in range(20)))
    assert await keys(blobs) == {f"user-1/{n % 2}/kept-{n}" for n in range(20)}


async def test_keys_are_found_by_any_beginning(blobs: BlobStore) -> None:
    for key in ("user-1/loras/a", "user-1/loras/ab", "user-1/runs/1/0.png", "user-10/loras/a"):
        await blobs.put(key, each([b"x"]))
    assert await keys(blobs, "user-1/loras/") == {"user-1/loras/a", "user-1/loras/ab"}
    assert await keys(blobs, "user-1/loras/ab") == {"user-1/loras/ab"}
    assert await keys(blobs, "user-1/") == await keys(blobs) - {"user-10/loras/a"}
    assert await keys(blobs, "user-3/") == set()


HOSTILE_KEYS = [
    "", "/", "/a", "a/", "a//b", "..", "../a", "a/../b", "./a", "a/.", "a\\b", "C:/a", "a:b",
    "a\0b", "a\nb", ".incoming/a",
]  # fmt: skip


@pytest.mark.parametrize("key", HOSTILE_KEYS)
async def test_a_hostile_key_is_refused_everywhere(
    blobs: BlobStore, key: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="blob key"):
        await blobs.put(key, each([b"x"]))
    with pytest.raises(ValueError, match="blob key"):
        await read(blobs, key)
    with pytest.raises(ValueError, match="blob key"):
        await blobs.size(key)
    with pytest.raises(ValueError, match="blob key"):
        await blobs.delete(key)
    file = tmp_path / "file"
    file.write_bytes(b"x")
    with pytest.raises(ValueError, match="blob key"):
        await blobs.adopt(key, file)

"""Fetches whose connection breaks, or that bring other bytes than were uploaded."""

from collections.abc import AsyncIterator

import pytest
from lora_disk import Disk, MakeDisk
from lora_pins import stored
from safetensors_files import lora_bytes

from sidecar.errors import UnavailableError, UpstreamError

DATA = lora_bytes(1, size=6 << 20)


def cutting(disk: Disk, *after: int) -> None:
    """Let the next reads break off after so many bytes each; then all is well."""
    left = list(after)

    async def cut(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        limit = left.pop(0) if left else 1 << 40
        async for chunk in chunks:
            yield chunk[:limit]
            limit -= len(chunk)
            if limit <= 0:
                raise UnavailableError("blobs", "cut")

    disk.blobs.alter = cut


async def test_a_fetch_goes_on_where_it_was_cut(make_disk: MakeDisk) -> None:
    disk = make_disk()
    pin = await stored(disk.blobs, "style", DATA)
    asked: list[int] = []
    disk.blobs.starts = asked
    cutting(disk, 3 << 20, 2 << 20, 100)
    path = await disk.sync.ensure(pin)
    assert path.read_bytes() == DATA
    assert asked[0] == 0
    assert asked[1] >= 2 << 20
    assert asked == sorted(asked)
    assert disk.records.damage == []


async def test_a_store_that_stays_away_is_not_asked_for_ever(make_disk: MakeDisk) -> None:
    disk = make_disk()
    pin = await stored(disk.blobs, "style", DATA)
    cutting(disk, *[0] * 100)
    with pytest.raises(UnavailableError):
        await disk.sync.ensure(pin)
    assert disk.blobs.reads < 10
    assert disk.there() == set()
    assert disk.bytes() == 0


async def test_a_bit_that_turned_on_the_way_is_noticed_and_fetched_again(
    make_disk: MakeDisk,
) -> None:
    disk = make_disk()
    pin = await stored(disk.blobs, "style", DATA)

    async def flipped(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            yield bytes([chunk[0] ^ (disk.blobs.reads == 1)]) + chunk[1:]

    disk.blobs.alter = flipped
    assert (await disk.sync.ensure(pin)).read_bytes() == DATA
    assert disk.blobs.reads == 2
    assert disk.records.damage == []


@pytest.mark.parametrize("reason", ["altered", "missing"])
async def test_a_store_that_lost_the_bytes_is_told_from_one_that_is_away(
    make_disk: MakeDisk, reason: str
) -> None:
    disk = make_disk()
    pin = await stored(disk.blobs, "style", DATA)
    await disk.blobs.delete(pin.object_key)
    if reason == "altered":

        async def others() -> AsyncIterator[bytes]:
            yield DATA[:-1] + b"?"

        await disk.blobs.put(pin.object_key, others())
    with pytest.raises(UpstreamError) as caught:
        await disk.sync.ensure(pin)
    assert caught.value.details["reason"] == reason
    assert caught.value.details["name"] == "style"
    assert disk.records.damage == [("style", reason)]
    assert disk.there() == set()
    assert disk.bytes() == 0

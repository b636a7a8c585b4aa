"""The folder is right again after somebody deletes, changes or drops files in it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from lora_disk import BEN, Disk, MakeDisk
from lora_pins import OWNER
from safetensors_files import lora_bytes

from sidecar.loras.disk.watching import FolderWatch


@asynccontextmanager
async def watched(disk: Disk, how: str) -> AsyncIterator[None]:
    """With somebody who looks after it, and has begun to."""
    if how == "told":
        async with FolderWatch(disk.tidier, disk.folder, settle_seconds=0.05).running():
            await asyncio.sleep(0.1)
            yield
        return
    scanning = asyncio.create_task(scan_without_end(disk))
    yield
    scanning.cancel()
    await asyncio.gather(scanning, return_exceptions=True)


async def scan_without_end(disk: Disk) -> None:
    while True:
        await asyncio.sleep(0.05)
        await disk.tidier.scan()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - it is a file that is looked at
        await asyncio.sleep(0.02)


@pytest.fixture(params=["told", "scanning"])
def how(request: pytest.FixtureRequest) -> str:
    """It is noticed by the system's word, or, as on a network share, by looking."""
    return str(request.param)


async def test_a_needed_file_that_somebody_deletes_comes_back(
    make_disk: MakeDisk, how: str
) -> None:
    disk = make_disk()
    pin = await disk.lora(1)
    path = await disk.sync.ensure(pin)
    whole = path.read_bytes()
    await disk.sync.admit(disk.records.run(pin), [pin])
    async with watched(disk, how):
        path.unlink()
        await until(path.exists)
    assert path.read_bytes() == whole


async def test_a_file_that_nobody_needs_now_stays_away(make_disk: MakeDisk, how: str) -> None:
    disk = make_disk()
    path = await disk.sync.ensure(await disk.lora(1))
    async with watched(disk, how):
        path.unlink()
        await asyncio.sleep(0.4)
    assert not path.exists()
    assert disk.blobs.reads == 1


@pytest.mark.parametrize(
    "damage", [b"", b"x" * 50, lora_bytes(9, size=100_000)], ids=["empty", "short", "another"]
)
@pytest.mark.parametrize("is_needed", [True, False])
async def test_a_file_that_somebody_changes_is_not_listed_for_long(
    make_disk: MakeDisk, how: str, damage: bytes, is_needed: bool
) -> None:
    disk = make_disk()
    pin = await disk.lora(1)
    path = await disk.sync.ensure(pin)
    whole = path.read_bytes()
    if is_needed:
        await disk.sync.admit(disk.records.run(pin), [pin])
    async with watched(disk, how):
        path.write_bytes(damage)
        await until(lambda: not path.exists() or path.read_bytes() == whole)
        if is_needed:
            await until(lambda: path.exists() and path.read_bytes() == whole)


async def test_a_file_that_somebody_drops_in_is_kept_out_of_the_list_and_not_lost(
    make_disk: MakeDisk, how: str
) -> None:
    disk = make_disk()
    mine = disk.folder / f"user-{OWNER}"
    mine.mkdir()
    dropped = mine / "found on the net.safetensors"
    async with watched(disk, how):
        dropped.write_bytes(b"bytes")
        await until(lambda: not dropped.exists())
    assert (mine / f"{dropped.name}.unknown").read_bytes() == b"bytes"


async def test_the_right_bytes_under_a_known_name_are_kept(make_disk: MakeDisk, how: str) -> None:
    disk = make_disk()
    pin = await disk.lora(1)
    path = disk.folder / pin.path
    async with watched(disk, how):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(lora_bytes(1, size=100_000))
        await asyncio.sleep(0.4)
    assert path.exists()
    await disk.sync.ensure(pin)
    assert disk.blobs.reads == 0


async def test_a_file_that_outlived_its_lora_goes(make_disk: MakeDisk) -> None:
    disk = make_disk()
    pin = await disk.lora(1)
    bens = disk.bens(pin)
    kept, gone = await disk.sync.ensure(pin), await disk.sync.ensure(bens)
    disk.records.pins.remove(bens)  # unshared, or deleted on another machine
    await disk.tidier.scan()
    assert kept.exists()
    assert not gone.exists()
    assert not [*(disk.folder / f"user-{BEN}").iterdir()]


async def test_what_is_not_an_accounts_is_left_alone(make_disk: MakeDisk) -> None:
    disk = make_disk()
    others = [
        disk.folder / "shared.safetensors",
        disk.folder / "user-nobody" / "x.safetensors",
        disk.folder / f"user-{OWNER}" / "notes.txt",
        disk.folder / f"user-{OWNER}" / "sub" / "x.safetensors",
    ]
    for other in others:
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(b"theirs")
    await disk.tidier.scan()
    assert all(other.read_bytes() == b"theirs" for other in others)


async def test_a_file_that_is_on_its_way_is_left_alone(make_disk: MakeDisk) -> None:
    disk = make_disk()
    pin = await disk.lora(1)
    going, go_on = asyncio.Event(), asyncio.Event()

    async def held(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            going.set()
            await go_on.wait()
            yield chunk

    disk.blobs.alter = held
    bringing = asyncio.create_task(disk.sync.ensure(pin))
    await going.wait()
    await disk.tidier.scan()
    go_on.set()
    assert (await bringing).exists()

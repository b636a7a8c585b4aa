"""Files on ComfyUI's disk: absent, part, present."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from full_disk import files_up_to
from lora_pins import AlteredBlobs, listed, stored
from safetensors_files import lora_bytes

from sidecar.errors import StorageFullError, UnavailableError, UpstreamError
from sidecar.loras.disk import LoraSync
from sidecar.loras.models import LoraPin

DATA = lora_bytes(1, size=3 << 20)


@pytest.fixture
def blobs(tmp_path: Path) -> AlteredBlobs:
    return AlteredBlobs(tmp_path / "blobs")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "loras"


@pytest.fixture
def sync(blobs: AlteredBlobs, folder: Path) -> LoraSync:
    return LoraSync(blobs, folder)


@pytest.fixture
async def pin(blobs: AlteredBlobs) -> LoraPin:
    return await stored(blobs, "style", DATA)


def everything(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


class Gate:
    """Lets a read begin, and go on when it is opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            yield chunk
            self.reached.set()
            await self.open.wait()


async def test_a_missing_file_is_fetched_whole(sync: LoraSync, pin: LoraPin, folder: Path) -> None:
    assert not await sync.is_present(pin)
    path = await sync.ensure(pin)
    assert path == folder / pin.path
    assert path.read_bytes() == DATA
    assert await sync.is_present(pin)
    assert everything(folder) == [path]


async def test_a_present_file_is_not_fetched_again(
    sync: LoraSync, pin: LoraPin, blobs: AlteredBlobs
) -> None:
    await sync.ensure(pin)
    await sync.ensure(pin)
    assert blobs.reads == 1


async def test_another_process_trusts_a_good_file_after_reading_it(
    sync: LoraSync, pin: LoraPin, blobs: AlteredBlobs, folder: Path
) -> None:
    await sync.ensure(pin)
    await LoraSync(blobs, folder).ensure(pin)
    assert blobs.reads == 1


@pytest.mark.parametrize("seen_before", [True, False])
@pytest.mark.parametrize("damage", [DATA[:-1], DATA + b"x", b"", DATA[:-1] + b"\0", b"x" * 100])
async def test_a_damaged_file_is_replaced(
    sync: LoraSync, pin: LoraPin, folder: Path, damage: bytes, seen_before: bool
) -> None:
    target = folder / pin.path
    if seen_before:
        await sync.ensure(pin)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(damage)
    assert (await sync.ensure(pin)).read_bytes() == DATA


async def test_a_damaged_file_goes_even_when_the_store_is_away(
    sync: LoraSync, pin: LoraPin, folder: Path, blobs: AlteredBlobs
) -> None:
    target = await sync.ensure(pin)
    target.write_bytes(b"tampered")
    await blobs.delete(pin.object_key)
    with pytest.raises(UpstreamError):
        await sync.ensure(pin)
    assert everything(folder) == []


async def test_ten_at_once_share_one_fetch(
    sync: LoraSync, pin: LoraPin, blobs: AlteredBlobs
) -> None:
    paths = await asyncio.gather(*(sync.ensure(pin) for _ in range(10)))
    assert set(paths) == {paths[0]}
    assert blobs.reads == 1


async def test_cancelling_one_does_not_stop_the_others(
    sync: LoraSync, pin: LoraPin, blobs: AlteredBlobs
) -> None:
    blobs.alter = gate = Gate()
    first, second = (asyncio.create_task(sync.ensure(pin)) for _ in range(2))
    await gate.reached.wait()
    first.cancel()
    await asyncio.wait({first})
    gate.open.set()
    assert (await second).read_bytes() == DATA
    assert first.cancelled()
    assert blobs.reads == 1


async def test_cancelling_all_stops_the_fetch_and_a_later_one_starts_afresh(
    sync: LoraSync, pin: LoraPin, blobs: AlteredBlobs, folder: Path
) -> None:
    blobs.alter = gate = Gate()
    both = [asyncio.create_task(sync.ensure(pin)) for _ in range(2)]
    await gate.reached.wait()
    for each in both:
        each.cancel()
    await asyncio.wait(both)
    assert everything(folder) == []
    blobs.alter = None
    assert (await sync.ensure(pin)).read_bytes() == DATA


async def test_progress_reaches_everyone_who_waits(
    sync: LoraSync, pin: LoraPin, blobs: AlteredBlobs
) -> None:
    blobs.alter = gate = Gate()
    early: list[tuple[int, int]] = []
    late: list[tuple[int, int]] = []
    first = asyncio.create_task(sync.ensure(pin, lambda done, all_: early.append((done, all_))))
    await gate.reached.wait()
    second = asyncio.create_task(sync.ensure(pin, lambda done, all_: late.append((done, all_))))
    await asyncio.sleep(0)
    gate.open.set()
    await asyncio.gather(first, second)
    assert early[-1] == late[-1] == (len(DATA), len(DATA))
    assert early == sorted(early)


async def test_a_missing_blob_is_the_store_s_fault(
    sync: LoraSync, pin: LoraPin, blobs: AlteredBlobs
) -> None:
    await blobs.delete(pin.object_key)
    with pytest.raises(UpstreamError) as caught:
        await sync.ensure(pin)
    assert caught.value.code == "blobs_failed"
    assert caught.value.details["name"] == "style"


@pytest.mark.parametrize("wrong", [b"short", DATA + b"x", DATA[:-1] + b"\0", b""])
async def test_wrong_bytes_are_deleted_and_named(
    sync: LoraSync, pin: LoraPin, blobs: AlteredBlobs, folder: Path, wrong: bytes
) -> None:
    async def instead(_: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        yield wrong

    blobs.alter = instead
    with pytest.raises(UpstreamError) as caught:
        await sync.ensure(pin)
    assert caught.value.code == "blobs_failed"
    assert everything(folder) == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
async def test_a_full_disk_is_named_and_leaves_nothing(
    sync: LoraSync, pin: LoraPin, folder: Path
) -> None:
    with files_up_to(1 << 20), pytest.raises(StorageFullError) as caught:
        await sync.ensure(pin)
    assert caught.value.code == "disk_full"
    assert everything(folder) == []


async def test_what_cannot_fit_is_refused_before_it_is_fetched(
    sync: LoraSync, pin: LoraPin, blobs: AlteredBlobs
) -> None:
    with pytest.raises(StorageFullError, match="left"):
        await sync.ensure(replace(pin, bytes=1 << 60))
    assert blobs.reads == 0


async def test_leftover_parts_go_at_start_and_files_stay(
    sync: LoraSync, pin: LoraPin, folder: Path
) -> None:
    path = await sync.ensure(pin)
    (folder / pin.path.parts[0] / "x.safetensors.0.part").write_bytes(b"half")
    (folder / "own.part").write_bytes(b"not ours")
    await sync.clean()
    assert set(everything(folder)) == {path, folder / "own.part"}


async def test_a_part_that_another_sidecar_removes_is_fetched_again(
    sync: LoraSync, pin: LoraPin, blobs: AlteredBlobs, folder: Path
) -> None:
    if sys.platform == "win32":
        pytest.skip("an open file cannot be removed there")
    blobs.alter = gate = Gate()
    ensuring = asyncio.create_task(sync.ensure(pin))
    await gate.reached.wait()
    await LoraSync(blobs, folder).clean()
    gate.open.set()
    assert (await ensuring).read_bytes() == DATA
    assert blobs.reads == 2


async def test_a_use_is_marked_in_the_file_s_time(sync: LoraSync, pin: LoraPin) -> None:
    path = await sync.ensure(pin)
    os.utime(path, (1, 1))
    await sync.ensure(pin)
    assert path.stat().st_mtime > 1_000_000_000


async def test_a_removed_file_is_absent_and_removing_again_is_no_error(
    sync: LoraSync, pin: LoraPin
) -> None:
    await sync.ensure(pin)
    await sync.remove(pin)
    await sync.remove(pin)
    assert not await sync.is_present(pin)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
async def test_a_link_in_place_of_the_account_s_folder_is_refused(
    sync: LoraSync, pin: LoraPin, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "loras" / pin.path.parts[0]
    link.parent.mkdir()
    link.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(UnavailableError, match="link"):
        await sync.ensure(pin)
    assert everything(tmp_path / "elsewhere") == []


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
async def test_a_link_in_place_of_the_file_is_replaced_not_followed(
    sync: LoraSync, pin: LoraPin, folder: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.safetensors"
    outside.write_bytes(b"somebody's")
    target = folder / pin.path
    target.parent.mkdir(parents=True)
    target.symlink_to(outside)
    path = await sync.ensure(pin)
    assert not path.is_symlink()
    assert outside.read_bytes() == b"somebody's"


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
async def test_the_whole_lora_folder_may_be_a_link(
    blobs: AlteredBlobs, pin: LoraPin, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    path = await LoraSync(blobs, tmp_path / "link").ensure(pin)
    assert listed(tmp_path / "real")
    assert path.read_bytes() == DATA

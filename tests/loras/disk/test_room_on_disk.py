"""Room on ComfyUI's disk: what goes, what stays, and who waits."""

import asyncio
import os
import shutil
from uuid import uuid4

import pytest
from lora_disk import Disk, MakeDisk

from sidecar.errors import StorageFullError, UnavailableError
from sidecar.loras.models import LoraPin


def used(disk: Disk, pin: LoraPin, seconds_ago: int) -> None:
    """Let a file's last use be so long ago."""
    path = disk.folder / pin.path
    now = path.stat().st_mtime
    os.utime(path, (now - seconds_ago, now - seconds_ago))


async def three(disk: Disk) -> list[LoraPin]:
    """Three files, the first used longest ago."""
    pins = [await disk.lora(seed) for seed in range(3)]
    for age, pin in zip((3000, 2000, 1000), pins, strict=True):
        await disk.sync.ensure(pin)
        used(disk, pin, age)
    return pins


async def test_what_was_not_used_for_longest_makes_room(make_disk: MakeDisk) -> None:
    disk = make_disk(3)
    pins = await three(disk)
    await disk.sync.ensure(pins[0])  # used just now
    await disk.sync.ensure(await disk.lora(3))
    assert disk.there() == {"lora0", "lora2", "lora3"}
    # what went comes back when it is needed
    await disk.sync.ensure(pins[1])
    assert "lora1" in disk.there()


async def test_no_more_goes_than_must(make_disk: MakeDisk) -> None:
    disk = make_disk(4)
    await three(disk)
    await disk.sync.ensure(await disk.lora(3))
    assert disk.there() == {"lora0", "lora1", "lora2", "lora3"}


async def test_what_a_run_pins_stays_however_old_it_is(make_disk: MakeDisk) -> None:
    disk = make_disk(3)
    pins = await three(disk)
    run = disk.records.run(pins[0])
    await disk.sync.admit(run, [pins[0]])
    disk.records.run(pins[1], worker="another pair")
    await disk.sync.ensure(await disk.lora(3))
    assert disk.there() == {"lora0", "lora1", "lora3"}


async def test_what_queued_runs_will_want_goes_last(make_disk: MakeDisk) -> None:
    disk = make_disk(3)
    pins = await three(disk)
    disk.records.run(pins[0], worker=None)
    await disk.sync.ensure(await disk.lora(3))
    assert disk.there() == {"lora0", "lora2", "lora3"}
    used(disk, pins[2], 10)
    async with disk.sync.held([pins[2]]):
        await disk.sync.ensure(await disk.lora(4))
        assert disk.there() == {"lora0", "lora2", "lora4"}
        async with disk.sync.held([(await disk.lora(4))]):
            await disk.sync.ensure(await disk.lora(5))
    assert disk.there() == {"lora2", "lora4", "lora5"}


async def test_runs_whose_files_do_not_fit_together_take_turns(make_disk: MakeDisk) -> None:
    disk = make_disk(3)
    a, b, c, d = [await disk.lora(seed) for seed in range(4)]
    first, second = disk.records.run(a, b), disk.records.run(c, d)
    await disk.sync.admit(first, [a, b])
    with pytest.raises(UnavailableError) as waiting:
        await disk.sync.admit(second, [c, d])
    assert waiting.value.details["system"] == "lora_cache"
    await disk.sync.admit(first, [a, b])  # again, after a crash of the engine
    del disk.records.runs[first]
    await disk.sync.admit(second, [c, d])


async def test_runs_that_each_have_half_do_not_wait_for_each_other(make_disk: MakeDisk) -> None:
    disk = make_disk(2)
    a, b, c, d = [await disk.lora(seed) for seed in range(4)]
    await disk.sync.ensure(a)
    await disk.sync.ensure(c)
    # both have been claimed before room was asked for
    first, second = disk.records.run(a, b), disk.records.run(c, d)
    await disk.sync.admit(first, [a, b])
    with pytest.raises(UnavailableError):
        await disk.sync.admit(second, [c, d])
    await disk.sync.ensure(b)
    assert disk.there() == {"lora0", "lora1"}


async def test_runs_with_the_same_bytes_fit_together(make_disk: MakeDisk) -> None:
    disk = make_disk(1)
    a = await disk.lora(1)
    bens = disk.bens(a)
    for pin in (a, bens):
        run = disk.records.run(pin)
        await disk.sync.admit(run, [pin])
        await disk.sync.ensure(pin)
    assert disk.bytes() == a.bytes


async def test_a_run_that_can_never_fit_is_told_so(make_disk: MakeDisk) -> None:
    disk = make_disk(1.5)
    pins = [await disk.lora(seed) for seed in range(2)]
    with pytest.raises(StorageFullError) as refused:
        await disk.sync.admit(uuid4(), pins)
    assert refused.value.code == "lora_cache_full"


async def test_runs_that_were_under_way_before_a_restart_have_their_room(
    make_disk: MakeDisk,
) -> None:
    disk = make_disk(2)
    a, b, c = [await disk.lora(seed) for seed in range(3)]
    disk.records.run(a, b)
    await disk.sync.ensure(a)
    await disk.sync.ensure(b)
    again = make_disk(2)
    again.records.runs |= disk.records.runs
    await again.sync.clean()
    new = again.records.run(c)
    with pytest.raises(UnavailableError):
        await again.sync.admit(new, [c])
    with pytest.raises(UnavailableError):
        await again.sync.ensure(c)
    assert again.there() == {"lora0", "lora1"}


async def test_fetches_side_by_side_never_pass_the_limit(make_disk: MakeDisk) -> None:
    disk = make_disk(3.5)
    pins = [await disk.lora(seed) for seed in range(12)]
    most = 0

    async def slow(chunks):  # type: ignore[no-untyped-def]
        nonlocal most
        async for chunk in chunks:
            most = max(most, disk.bytes())
            await asyncio.sleep(0.01)
            yield chunk

    disk.blobs.alter = slow
    answers = await asyncio.gather(*(disk.sync.ensure(pin) for pin in pins), return_exceptions=True)
    assert most <= 3.5 * pins[0].bytes
    assert disk.bytes() <= 3.5 * pins[0].bytes
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert all(isinstance(answer, UnavailableError) for answer in refused)
    assert len(refused) < len(pins)


async def test_the_disk_keeps_what_must_stay_free(
    make_disk: MakeDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = make_disk(None, min_free_bytes=1000)
    pins = [await disk.lora(seed) for seed in range(3)]
    size = pins[0].bytes

    def usage(_path: object) -> object:
        return shutil._ntuple_diskusage(0, 0, 2 * size + 1500 - disk.bytes())

    monkeypatch.setattr(shutil, "disk_usage", usage)
    for pin in pins:
        await disk.sync.ensure(pin)
    assert disk.there() == {"lora1", "lora2"}
    async with disk.sync.held(pins[1:]):
        with pytest.raises(UnavailableError):
            await disk.sync.ensure(pins[0])


async def test_fifty_runs_that_need_ten_files_fetch_each_once(make_disk: MakeDisk) -> None:
    disk = make_disk(10.5)
    pins = [await disk.lora(seed) for seed in range(10)]

    async def run(number: int) -> None:
        wanted = pins[number % 10 :] + pins[: number % 10]
        run_id = disk.records.run(*wanted)
        await disk.sync.admit(run_id, wanted)
        for pin in wanted:
            await disk.sync.ensure(pin)
        del disk.records.runs[run_id]

    await asyncio.gather(*(run(number) for number in range(50)))
    assert disk.blobs.reads == 10
    assert len(disk.there()) == 10


async def test_the_same_bytes_for_two_people_are_fetched_once_and_stored_once(
    make_disk: MakeDisk,
) -> None:
    disk = make_disk(1.5)
    anns = await disk.lora(1)
    bens = disk.bens(anns)
    paths = await asyncio.gather(disk.sync.ensure(anns), disk.sync.ensure(bens))
    assert disk.blobs.reads == 1
    assert paths[0].samefile(paths[1])
    await disk.sync.remove(anns)
    assert paths[1].read_bytes()
    again = await disk.sync.ensure(anns)
    assert again.samefile(paths[1])
    assert disk.blobs.reads == 1


async def test_a_file_system_without_links_gets_two_files(
    make_disk: MakeDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    disk = make_disk()
    anns = await disk.lora(1)
    bens = disk.bens(anns)
    for pin in (anns, bens):
        await disk.sync.ensure(pin)
    assert disk.blobs.reads == 2
    assert disk.bytes() == 2 * anns.bytes


async def test_using_one_name_of_linked_files_does_not_have_the_other_read_again(
    make_disk: MakeDisk,
) -> None:
    disk = make_disk()
    anns = await disk.lora(1)
    bens = disk.bens(anns)
    await disk.sync.ensure(anns)
    await disk.sync.ensure(bens)
    used(disk, anns, 5000)
    await disk.sync.ensure(anns)
    assert await disk.sync.verified.is_as_it_was(disk.folder / bens.path)

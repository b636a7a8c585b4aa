"""Files that move: every byte read again, none overwritten, none half there."""

import io
import os
import sqlite3
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from full_disk import files_up_to
from lived_in_studio import LivedIn
from moving_house import Copy, NewHouse

from sidecar.commands.copy import run
from sidecar.errors import InvalidError, StorageFullError


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def one_output(old: LivedIn) -> Path:
    return sorted(old.blobs.glob("user-*/runs/*/*.png"))[0]


def key_of(file: Path, old: LivedIn) -> str:
    return file.relative_to(old.blobs).as_posix()


async def test_every_file_arrives_also_those_that_no_row_names(
    old: LivedIn, on_sqlite: NewHouse, copy: Copy
) -> None:
    (old.blobs / "user-x").mkdir()
    (old.blobs / "user-x" / "kept.bin").write_bytes(b"kept")
    (old.blobs / "empty").write_bytes(b"")

    assert (await copy(old, on_sqlite))[0] == 0
    assert files_below(on_sqlite.blobs) == files_below(old.blobs)


async def test_what_is_there_already_is_not_written_again(
    old: LivedIn, on_sqlite: NewHouse, copy: Copy
) -> None:
    await copy(old, on_sqlite)
    before = {path: path.stat().st_mtime_ns for path in on_sqlite.blobs.rglob("*.png")}
    lost = on_sqlite.blobs / key_of(one_output(old), old)
    lost.unlink()

    code, printed = await copy(old, on_sqlite)

    assert (code, "files: 1 copied" in printed) == (0, True)
    assert {path for path, at in before.items() if path.stat().st_mtime_ns != at} == {lost}


async def test_a_file_that_a_row_names_and_that_is_not_there_is_told_and_stops_nothing(
    old: LivedIn, on_sqlite: NewHouse, copy: Copy
) -> None:
    lost = one_output(old)
    lost.unlink()

    code, printed = await copy(old, on_sqlite)

    assert code == 1
    assert f"NOT THERE: {key_of(lost, old)}: missing" in printed
    assert files_below(on_sqlite.blobs) == files_below(old.blobs)
    assert "comfyui_run_events" in printed


async def test_a_damaged_file_is_told_and_not_brought_under_its_name(
    old: LivedIn, on_sqlite: NewHouse, copy: Copy
) -> None:
    damaged = one_output(old)
    damaged.write_bytes(bytes(damaged.stat().st_size))

    code, printed = await copy(old, on_sqlite)

    assert code == 1
    assert f"NOT THERE: {key_of(damaged, old)}: damaged" in printed
    assert key_of(damaged, old) not in files_below(on_sqlite.blobs)


@pytest.mark.parametrize("is_named", [True, False])
async def test_other_bytes_under_the_name_are_told_and_kept(
    old: LivedIn, on_sqlite: NewHouse, copy: Copy, is_named: bool
) -> None:
    (old.blobs / "unnamed").write_bytes(b"ours")
    file = one_output(old) if is_named else old.blobs / "unnamed"
    theirs = on_sqlite.blobs / key_of(file, old)
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(bytes(file.stat().st_size))

    code, printed = await copy(old, on_sqlite)

    assert code == 1
    assert f"NOT THERE: {key_of(file, old)}: the destination has other bytes" in printed
    assert theirs.read_bytes() == bytes(file.stat().st_size)


async def test_what_is_no_file_of_a_studio_is_left_behind_and_told(
    old: LivedIn, on_sqlite: NewHouse, copy: Copy
) -> None:
    (old.blobs / ".DS_Store").write_bytes(b"x")

    code, printed = await copy(old, on_sqlite)

    assert (code, "left: .DS_Store" in printed) == (0, True)
    assert ".DS_Store" not in files_below(on_sqlite.blobs)


@pytest.mark.parametrize("with_blobs", [True, False])
async def test_a_row_that_names_what_no_store_takes_is_told(
    old: LivedIn, on_sqlite: NewHouse, copy: Copy, with_blobs: bool
) -> None:
    connection = sqlite3.connect(old.file)
    with connection:
        connection.execute("update comfyui_lora_versions set object_key = '../' || lora_id")
    connection.close()

    code, printed = await copy(old, on_sqlite, with_blobs=with_blobs)

    assert (code, printed.count("no store takes this name")) == (1, 3)
    assert set(on_sqlite.folder.parent.iterdir()) == {on_sqlite.folder, old.folder}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
async def test_a_file_whose_name_is_no_text_can_be_told(old: LivedIn, on_sqlite: NewHouse) -> None:
    name = os.fsdecode(b".\xff")
    (old.blobs / name).write_bytes(b"x")
    out = io.TextIOWrapper(io.BytesIO(), "ascii")

    asked = Namespace(to=on_sqlite.url, to_blobs=on_sqlite.blobs)
    assert await run(asked, old.settings, out) == 0
    assert b"left: .\\udcff" in out.buffer.getvalue()


async def test_halves_that_an_earlier_kill_left_are_removed(
    old: LivedIn, on_sqlite: NewHouse, copy: Copy
) -> None:
    (on_sqlite.blobs / ".incoming").mkdir(parents=True)
    (on_sqlite.blobs / ".incoming" / "1.part").write_bytes(b"half")

    assert (await copy(old, on_sqlite))[0] == 0
    assert files_below(on_sqlite.blobs) == files_below(old.blobs)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX file size limits")
async def test_a_full_disk_is_told_and_the_next_try_goes_on(
    old: LivedIn, on_postgres: NewHouse, copy: Copy
) -> None:
    (old.blobs / "long").write_bytes(bytes(100_000))
    with files_up_to(50_000), pytest.raises(StorageFullError, match=r"--to-blobs.*Run the same"):
        await copy(old, on_postgres)
    there, here = files_below(on_postgres.blobs), files_below(old.blobs)
    assert "long" not in there
    assert there.items() <= here.items()

    assert (await copy(old, on_postgres))[0] == 0
    assert files_below(on_postgres.blobs) == here


async def test_files_that_stay_in_use_are_looked_for(
    old: LivedIn, on_sqlite: NewHouse, copy: Copy
) -> None:
    code, printed = await copy(old, on_sqlite, with_blobs=False)

    assert (code, "that rows name are in their place" in printed) == (0, True)
    assert not on_sqlite.blobs.exists()


async def test_files_that_stay_in_use_and_are_not_there_are_told(
    old: LivedIn, on_sqlite: NewHouse, copy: Copy
) -> None:
    lost, cut = sorted(old.blobs.glob("user-*/runs/*/*.png"))[:2]
    lost.unlink()
    cut.write_bytes(b"cut")

    code, printed = await copy(old, on_sqlite, with_blobs=False)

    assert code == 1
    assert f"NOT THERE: {key_of(lost, old)}: missing" in printed
    assert f"NOT THERE: {key_of(cut, old)}: has 3 bytes, its row says 300" in printed


@pytest.mark.parametrize("place", ["blobs", "blobs/new", "."])
async def test_files_are_not_copied_into_themselves(
    old: LivedIn, on_sqlite: NewHouse, copy: Copy, place: str
) -> None:
    before = old.fingerprints()
    house = NewHouse(on_sqlite.url, old.folder / place)
    inside = house if place == "." else NewHouse(on_sqlite.url, old.folder / place / "..")
    with pytest.raises(InvalidError) as refused:
        await copy(old, inside)
    assert refused.value.code == "same_folder"
    assert old.fingerprints() == before

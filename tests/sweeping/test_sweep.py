"""A sweep finds what crashes and strangers left, and nothing else."""

import os
import shutil
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from clock import FakeClock
from command_line import carried_out
from lora_library import ANN, Library, opened_library
from safetensors_files import lora_bytes
from some_runs import some_run

from sidecar.commands import sweep as command
from sidecar.database import Database
from sidecar.loras.models import VersionState
from sidecar.loras.objects import LoraObjects
from sidecar.runs.models import Status
from sidecar.runs.objects import RunObjects
from sidecar.runs.store import RunStore
from sidecar.sweeping.service import Sweeper
from sidecar.uploads.expiry import UploadExpiry
from sidecar.uploads.files import UploadFiles

A, B = lora_bytes(1), lora_bytes(2)
OLD = timedelta(days=2)


class RealClock(FakeClock):
    """Files have the times that the system gives them."""

    def now(self) -> datetime:
        return datetime.now(timezone.utc)


@pytest.fixture
async def library(database: Database, tmp_path: Path) -> AsyncIterator[Library]:
    async with opened_library(database, RealClock(), tmp_path) as library:
        yield library


@pytest.fixture
def sweeper(library: Library, tmp_path: Path) -> Sweeper:
    files = UploadFiles(tmp_path / "uploads")
    return Sweeper(
        library.blobs,
        library.sync,
        LoraObjects(library.database),
        RunObjects(library.database),
        UploadExpiry(library.database, files, worker_id="local", seconds=3600),
        library.clock,
    )


async def put(library: Library, key: str, *, is_old: bool = True) -> Path:
    async def once() -> AsyncIterator[bytes]:
        yield b"bytes"

    await library.blobs.put(key, once())
    path = library.loras_dir.parent / "blobs" / key
    if is_old:
        age(path)
    return path


def age(path: Path) -> None:
    then = (datetime.now(timezone.utc) - OLD).timestamp()
    os.utime(path, (then, then))


async def test_objects_that_no_row_names_go_when_they_are_old(
    library: Library, sweeper: Sweeper
) -> None:
    await library.upload(A)
    for key in await library.keys():
        age(library.loras_dir.parent / "blobs" / key)
    kept = await library.keys()
    old = await put(library, f"{ANN.folder}/loras/{uuid4()}.safetensors")
    new = await put(library, f"{ANN.folder}/loras/{uuid4()}.safetensors", is_old=False)
    stranger = f"user-{uuid4()}/loras/{uuid4()}.safetensors"
    gone = await put(library, stranger)

    would = await sweeper.sweep(dry_run=True)
    assert all(path.exists() for path in (old, new, gone))
    swept = await sweeper.sweep()

    assert would == swept
    assert len(swept.found["objects without a row"]) == 2
    assert swept.bytes == 2 * len(b"bytes")
    assert not any(path.exists() for path in (old, gone))
    assert new.exists()
    assert kept < await library.keys()


async def test_a_second_sweep_finds_nothing(library: Library, sweeper: Sweeper) -> None:
    await put(library, f"{ANN.folder}/loras/{uuid4()}.safetensors")
    await sweeper.sweep()
    assert not any((await sweeper.sweep()).found.values())


async def test_what_is_not_ours_stays(library: Library, sweeper: Sweeper) -> None:
    theirs = [
        await put(library, key)
        for key in ("other/loras/x", "user-somebody/loras/x", f"{ANN.folder}/notes/x")
    ]
    await sweeper.sweep()
    assert all(path.exists() for path in theirs)


async def test_outputs_of_runs_that_were_deleted_go_and_others_stay(
    library: Library, sweeper: Sweeper
) -> None:
    run = some_run(library.clock.now(), ANN.id, status=Status.SUCCEEDED)
    async with library.database.transaction(ANN) as tx:
        await RunStore(tx).add(run)
    kept = await put(library, f"{ANN.folder}/runs/{run.id}/1-0.png")
    gone = await put(library, f"{ANN.folder}/runs/{uuid4()}/1-0.png")
    await sweeper.sweep()
    assert kept.exists()
    assert not gone.exists()


async def test_a_version_whose_object_is_lost_is_marked_for_its_owner(
    library: Library, sweeper: Sweeper
) -> None:
    detail, _ = await library.upload(A)
    await library.upload(B)
    first = (await library.service.get(ANN, detail.lora.id)).versions[-1]
    await library.blobs.delete(first.object_key)
    await sweeper.sweep(dry_run=True)
    now = await library.service.get(ANN, detail.lora.id)
    assert [each.state for each in now.versions] == [VersionState.STORED] * 2
    swept = await sweeper.sweep()
    assert swept.found["versions without an object"] == [first.object_key]
    now = await library.service.get(ANN, detail.lora.id)
    assert [each.state for each in now.versions] == [VersionState.STORED, VersionState.DAMAGED]


async def test_parts_go_when_nobody_has_written_to_them_for_a_day(
    library: Library, sweeper: Sweeper, tmp_path: Path
) -> None:
    folder = library.loras_dir / ANN.folder
    folder.mkdir(parents=True)
    incoming = tmp_path / "blobs" / ".incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    parts = [
        folder / "a.safetensors.1.part",
        incoming / "1.part",
        tmp_path / "uploads" / str(uuid4()),
    ]
    for part in parts:
        part.parent.mkdir(exist_ok=True)
        part.write_bytes(b"half")
    await sweeper.sweep()
    assert all(part.exists() for part in parts)
    for part in parts:
        age(part)
    await sweeper.sweep()
    assert not any(part.exists() for part in parts)


async def test_the_command_says_what_it_did(tmp_path: Path, database_file: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    shutil.move(database_file, data / "atelier.db")
    stray = data / "blobs" / f"user-{uuid4()}" / "loras" / "x.safetensors"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"stray")
    age(stray)
    settings: dict[str, Any] = {
        "ATELIER_DATA_DIR": data,
        "COMFYUI_LORAS_DIR": tmp_path / "loras",
    }
    code, said = await carried_out(command, "sweep --dry-run", settings)
    assert (code, stray.exists()) == (0, True)
    assert "objects without a row: 1\n" in said
    assert "5 bytes of objects would be freed" in said
    code, said = await carried_out(command, "sweep", settings)
    assert (code, stray.exists()) == (0, False)
    assert "5 bytes of objects freed" in said

"""The bytes of an upload: each in its place, and only what is durable."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from full_disk import files_up_to

from sidecar.errors import ConflictError, StorageFullError
from sidecar.uploads.files import UploadFiles

DATA = bytes(range(256)) * 4096


@pytest.fixture
def files(tmp_path: Path) -> UploadFiles:
    return UploadFiles(tmp_path / "uploads")


@pytest.fixture
async def upload(files: UploadFiles) -> UUID:
    upload = uuid4()
    await files.make(upload)
    return upload


async def sent(start: int, stop: int, then: asyncio.Event | None = None) -> AsyncIterator[bytes]:
    for at in range(start, stop, 1000):
        yield DATA[at : min(at + 1000, stop)]
    if then is not None:
        await then.wait()


async def test_of_two_who_send_at_once_one_is_told_where_to_go_on(
    files: UploadFiles, upload: UUID
) -> None:
    both = [files.append(upload, 0, sent(0, 50_000), None) for _ in range(2)]
    answers = await asyncio.gather(*both, return_exceptions=True)
    assert [type(answer) for answer in answers] == [bool, ConflictError]
    assert files.path(upload).read_bytes() == DATA[:50_000]


async def test_a_sender_that_is_cut_off_has_written_down_all_it_will(
    files: UploadFiles, upload: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, sync = asyncio.Event(), os.fsync

    def slowly(handle: int) -> None:
        time.sleep(0.2)  # in a thread
        sync(handle)

    monkeypatch.setattr(os, "fsync", slowly)
    sending = asyncio.create_task(files.append(upload, 0, sent(0, 30_000, slow), None))
    await asyncio.sleep(0.1)
    sending.cancel()
    await asyncio.sleep(0.05)
    sending.cancel()  # once more, while it writes down how far it came
    await asyncio.wait({sending})
    at = await files.offset(upload)
    assert at == 30_000
    await files.append(upload, at, sent(at, 60_000), None)
    assert files.path(upload).read_bytes() == DATA[:60_000]


async def test_bytes_that_were_not_forced_to_the_disk_are_sent_again(
    files: UploadFiles, upload: UUID, tmp_path: Path
) -> None:
    await files.append(upload, 0, sent(0, 20_000), None)
    with files.path(upload).open("ab") as file:  # as a file system may show after a power cut
        file.write(b"\0" * 5000)
    again = UploadFiles(tmp_path / "uploads")
    assert await again.offset(upload) == 20_000
    await again.append(upload, 20_000, sent(20_000, 40_000), None)
    assert again.path(upload).read_bytes() == DATA[:40_000]


async def test_a_full_disk_keeps_what_it_has(files: UploadFiles, upload: UUID) -> None:
    await files.append(upload, 0, sent(0, 20_000), None)
    with files_up_to(30_000), pytest.raises(StorageFullError):
        await files.append(upload, 20_000, sent(20_000, 900_000), None)
    at = await files.offset(upload)
    assert 20_000 <= at <= 30_000
    await files.append(upload, at, sent(at, 60_000), None)
    assert files.path(upload).read_bytes() == DATA[:60_000]

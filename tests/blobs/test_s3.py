"""What an S3 store does besides being a BlobStore: its keys, its links, its bad days."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import urllib3
from cutting_proxy import CuttingProxy
from minio.error import S3Error
from ports import free_port
from s3_server import S3Server

from sidecar.blobs.s3 import PART_BYTES, S3Blobs
from sidecar.blobs.s3_client import S3Address
from sidecar.errors import NotFoundError, UnavailableError

KEY = "user-1/loras/a"
BIG = b"0123456789abcdef" * (PART_BYTES // 16)


@asynccontextmanager
async def opened(address: S3Address, _folder: Path) -> AsyncIterator[S3Blobs]:
    blobs = S3Blobs(address, max_bytes=1 << 30)
    await blobs.clean()
    try:
        yield blobs
    finally:
        await blobs.close()


async def parts(count: int, then: BaseException | None = None) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield BIG
    if then is not None:
        raise then


async def read(blobs: S3Blobs, key: str = KEY) -> bytes:
    async with blobs.open(key) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def read_and(blobs: S3Blobs, meanwhile: Callable[[], None]) -> None:
    async with blobs.open(KEY) as chunks:
        async for _ in chunks:
            meanwhile()


def get(url: str) -> tuple[int, bytes, str]:
    answer = urllib3.PoolManager().request("GET", url, retries=False)
    return answer.status, answer.data, answer.headers.get("content-disposition", "")


def unfinished(server: S3Server, bucket: str) -> int:
    return len(server.client()._list_multipart_uploads(bucket).uploads)


@pytest.fixture
async def blobs(s3_server: S3Server, bucket: str, tmp_path: Path) -> AsyncIterator[S3Blobs]:
    async with opened(s3_server.address(bucket), tmp_path) as blobs:
        yield blobs


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"secret_key": "x" * 40}, "SignatureDoesNotMatch"),
        ({"access_key": "NOBODY"}, "InvalidAccessKeyId"),
    ],
    ids=["bad secret", "unknown key"],
)
async def test_wrong_keys_are_refused_and_named(
    s3_server: S3Server, blobs: S3Blobs, tmp_path: Path, changes: dict[str, str], reason: str
) -> None:
    await blobs.put(KEY, parts(1))
    address = replace(blobs.address, **changes)
    async with opened(address, tmp_path) as stranger:
        for attempt in (stranger.check(), stranger.put("b", parts(1)), read(stranger)):
            with pytest.raises(UnavailableError) as refused:
                await attempt
            assert refused.value.details["system"] == "blobs"
            # HEAD has no body that could say more
            assert refused.value.details["reason"] in (reason, "AccessDenied")
            assert changes.get("secret_key", s3_server.secret_key) not in refused.value.message


async def test_a_bucket_is_made_when_it_is_first_needed(
    s3_server: S3Server, blobs: S3Blobs, bucket: str
) -> None:
    assert not s3_server.client().bucket_exists(bucket)
    assert await blobs.size(KEY) is None
    assert s3_server.client().bucket_exists(bucket)


async def test_bytes_that_differ_from_their_checksum_are_refused(blobs: S3Blobs) -> None:
    await blobs.check()
    upload = blobs.client._create_multipart_upload(blobs.address.bucket, KEY, {})
    wrong = {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}
    with pytest.raises(S3Error) as refused:
        blobs.client._upload_part(blobs.address.bucket, KEY, b"bytes", wrong, upload, 1)
    assert refused.value.code in ("BadDigest", "InvalidDigest")


async def test_a_link_opens_one_object_as_a_file_until_it_expires(
    s3_server: S3Server, blobs: S3Blobs, bucket: str, tmp_path: Path
) -> None:
    await blobs.put(KEY, parts(1))
    await blobs.put("user-1/loras/b", parts(1))
    assert await blobs.link(KEY, "x", 60) is None
    address = s3_server.address(bucket, public_endpoint=s3_server.url)
    async with opened(address, tmp_path) as public:
        link = await public.link(KEY, 'm\u00fc "x".safetensors', 60)
        short = await public.link(KEY, "x", 1)
    assert link is not None
    assert short is not None
    status, data, disposition = await asyncio.to_thread(get, link)
    assert (status, data) == (200, BIG)
    assert disposition == "attachment; filename*=UTF-8''m%C3%BC%20%22x%22.safetensors"
    assert (await asyncio.to_thread(get, link.replace("loras/a?", "loras/b?")))[0] == 403
    assert (await asyncio.to_thread(get, link[:-1] + ("0" if link[-1] != "0" else "1")))[0] == 403
    await asyncio.sleep(2.1)
    assert (await asyncio.to_thread(get, short))[0] == 403


async def test_an_upload_that_fails_is_aborted_in_the_store(
    s3_server: S3Server, blobs: S3Blobs, bucket: str
) -> None:
    with pytest.raises(ValueError, match="source"):
        await blobs.put(KEY, parts(4, ValueError("source")))
    putting = asyncio.create_task(blobs.put(KEY, endless()))
    await asyncio.sleep(0.5)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await blobs.size(KEY) is None
    assert unfinished(s3_server, bucket) == 0


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield BIG


async def test_what_nobody_completed_is_swept(
    s3_server: S3Server, blobs: S3Blobs, bucket: str
) -> None:
    await blobs.check()
    client = blobs.client
    left = client._create_multipart_upload(bucket, KEY, {})
    client._upload_part(bucket, KEY, b"left", None, left, 1)
    now = datetime.now(timezone.utc)
    hour = timedelta(hours=1)
    assert await blobs.sweep_parts(now - hour, dry_run=False) == []
    found = await blobs.sweep_parts(now + hour, dry_run=True)
    assert len(found) == 1
    assert found[0].startswith(KEY)
    assert unfinished(s3_server, bucket) == 1
    assert await blobs.sweep_parts(now + hour, dry_run=False) == found
    assert unfinished(s3_server, bucket) == 0


async def test_a_store_that_is_away_says_so_soon_and_is_used_when_it_is_back(
    own_s3_server: S3Server, tmp_path: Path
) -> None:
    address = own_s3_server.address("bucket-1")
    away = replace(address, endpoint=f"127.0.0.1:{free_port()}", secure=False)
    async with opened(away, tmp_path) as nowhere:
        began = time.monotonic()
        with pytest.raises(UnavailableError):
            await nowhere.check()
        assert time.monotonic() - began < 10
    async with opened(address, tmp_path) as blobs:
        await blobs.put(KEY, parts(2))
        with pytest.raises(UnavailableError):
            await read_and(blobs, own_s3_server.kill)
        with pytest.raises(UnavailableError):
            await blobs.put("user-1/loras/b", parts(3))


async def test_a_connection_that_breaks_is_never_the_end_of_a_file(
    s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    proxy = CuttingProxy(int(s3_server.endpoint.rpartition(":")[2]))
    async with proxy.serving() as url:
        address = replace(s3_server.address(bucket), endpoint=url)
        async with opened(address, tmp_path) as blobs:
            await blobs.put(KEY, parts(3))
            proxy.cuts = [10 << 20]
            with pytest.raises(UnavailableError):
                await read(blobs)
            assert len(await read(blobs)) == 3 * len(BIG)
            # a cut PUT is sent again
            proxy.cuts = [-(4 << 20)]
            assert await blobs.put("user-1/loras/b", parts(2)) == 2 * len(BIG)
            assert await read(blobs, "user-1/loras/b") == 2 * BIG
    assert proxy.broken == 2


async def test_other_work_goes_on_while_a_store_is_slow(
    s3_server: S3Server, blobs: S3Blobs
) -> None:
    await blobs.put(KEY, parts(1))
    stalls = []

    async def beat() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            stalls.append(time.monotonic() - began)

    beating = asyncio.create_task(beat())
    with s3_server.frozen():
        asking = asyncio.create_task(read(blobs))
        await asyncio.sleep(0.5)
        assert not asking.done()
    assert await asking == BIG
    beating.cancel()
    assert len(stalls) > 20


async def test_a_missing_object_is_told_from_a_broken_store(blobs: S3Blobs) -> None:
    with pytest.raises(NotFoundError):
        await read(blobs)
    assert await blobs.size(KEY) is None
    await blobs.delete(KEY)


def test_an_address_does_not_show_its_keys(s3_server: S3Server) -> None:
    shown = repr(s3_server.address("b"))
    assert s3_server.secret_key not in shown
    assert s3_server.access_key not in shown

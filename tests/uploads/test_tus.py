"""Resumable uploads as a stock tus client and a careful one see them."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from clock import FakeClock
from cutting_proxy import CuttingProxy
from safetensors_files import lora_bytes
from studio import Studio, settings_for, stand_in_at
from studio import studio as running
from tusclient.client import TusClient

from sidecar.uploads.files import UploadFiles

pytestmark = pytest.mark.usefixtures("each_database")

TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {**TUS, "Content-Type": "application/offset+octet-stream"}
DATA = lora_bytes(1, size=300_000)


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    async with stand_in_at(tmp_path) as (_, url), running(settings_for(tmp_path, url)) as studio:
        yield studio


def metadata(**values: str) -> str:
    return ",".join(f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in values.items())


async def send(
    studio: Studio, method: str, path: str, data: Any = None, **headers: str
) -> tuple[int, Any, dict[str, str]]:
    """One request: status, JSON, headers."""
    named = {**TUS, **{key.replace("_", "-"): value for key, value in headers.items()}}
    url = path if path.startswith("http") else studio.host + path
    async with studio.session.request(method, url, data=data, headers=named) as answer:
        text = await answer.text()
        body = await answer.json() if text and answer.content_type.endswith("json") else None
        return answer.status, body, dict(answer.headers)


async def begin(studio: Studio, length: int = len(DATA), **values: str) -> str:
    """A new upload's path."""
    values = values or {"filename": "style.safetensors"}
    status, body, headers = await send(
        studio,
        "POST",
        "/api/v1/comfyui/uploads",
        Upload_Length=str(length),
        Upload_Metadata=metadata(**values),
    )
    assert status == 201, body
    return headers["Location"]


async def patch(
    studio: Studio, path: str, offset: int, data: bytes, **headers: str
) -> tuple[int, Any, dict[str, str]]:
    kind = "application/offset+octet-stream"
    return await send(
        studio, "PATCH", path, data, Upload_Offset=str(offset), Content_Type=kind, **headers
    )


async def offset(studio: Studio, path: str) -> int:
    status, _, headers = await send(studio, "HEAD", path)
    assert status == 200
    assert headers["Cache-Control"] == "no-store"
    return int(headers["Upload-Offset"])


async def test_the_server_says_what_it_can(studio: Studio) -> None:
    async with studio.session.options(studio.api + "/uploads") as answer:
        assert answer.status == 204
        assert answer.headers["Tus-Version"] == "1.0.0"
        assert set(answer.headers["Tus-Extension"].split(",")) >= {
            "creation", "checksum", "termination", "expiration",
        }  # fmt: skip
        assert int(answer.headers["Tus-Max-Size"]) > 1 << 30


async def test_chunks_become_a_lora(studio: Studio) -> None:
    path = await begin(studio, filename="My Style.safetensors", description="soft", tags="a,b")
    assert await offset(studio, path) == 0
    assert (await patch(studio, path, 0, DATA[:1000]))[0] == 204
    assert await offset(studio, path) == 1000
    status, _, headers = await patch(studio, path, 1000, DATA[1000:])
    assert (status, headers["Upload-Offset"]) == (204, str(len(DATA)))
    _, lora = await studio.ask("GET", f"/loras/{headers['Atelier-Lora-Id']}")
    assert (lora["name"], lora["description"], lora["tags"]) == ("My Style", "soft", ["a", "b"])
    assert lora["sha256"] == hashlib.sha256(DATA).hexdigest()
    _, shown = await studio.ask("GET", path.removeprefix("/api/v1/comfyui"))
    assert (shown["state"], shown["lora_id"], shown["version"]) == ("stored", lora["id"], 1)
    _, listed = await studio.ask("GET", "/uploads")
    assert [each["id"] for each in listed["items"]] == [shown["id"]]


async def test_an_upload_for_a_lora_is_its_next_version(studio: Studio) -> None:
    lora = await studio.upload("style.safetensors", DATA)
    other = lora_bytes(2)
    path = await begin(studio, len(other), lora_id=lora["id"])
    await patch(studio, path, 0, other)
    _, now = await studio.ask("GET", f"/loras/{lora['id']}")
    assert now["version"] == 2
    assert now["sha256"] == hashlib.sha256(other).hexdigest()


async def test_the_first_bytes_may_come_with_the_creation(studio: Studio) -> None:
    status, _, headers = await send(
        studio,
        "POST",
        "/api/v1/comfyui/uploads",
        DATA,
        Upload_Length=str(len(DATA)),
        Upload_Metadata=metadata(filename="at once.safetensors"),
        Content_Type="application/offset+octet-stream",
    )
    assert (status, headers["Upload-Offset"]) == (201, str(len(DATA)))
    assert "Atelier-Lora-Id" in headers


async def test_a_chunk_that_is_not_what_its_checksum_says_is_dropped(studio: Studio) -> None:
    path = await begin(studio)
    await patch(studio, path, 0, DATA[:500])
    wrong = "sha1 " + base64.b64encode(hashlib.sha1(b"other").digest()).decode()  # noqa: S324
    status, body, _ = await patch(studio, path, 500, DATA[500:], Upload_Checksum=wrong)
    assert (status, body["error"]["code"]) == (460, "checksum_mismatch")
    assert await offset(studio, path) == 500
    right = "sha256 " + base64.b64encode(hashlib.sha256(DATA[500:]).digest()).decode()
    assert (await patch(studio, path, 500, DATA[500:], Upload_Checksum=right))[0] == 204


async def test_a_wrong_offset_is_told_the_right_one(studio: Studio) -> None:
    path = await begin(studio)
    await patch(studio, path, 0, DATA[:500])
    status, body, _ = await patch(studio, path, 400, DATA[400:])
    assert (status, body["error"]["code"]) == (409, "wrong_offset")
    assert body["error"]["details"]["offset"] == 500


async def test_a_file_that_is_none_is_refused_by_its_first_bytes(studio: Studio) -> None:
    path = await begin(studio, 10_000_000)
    status, body, headers = await patch(studio, path, 0, b"PK\x03\x04" + b"x" * 100_000)
    assert (status, body["error"]["code"]) == (415, "not_safetensors")
    assert headers["Tus-Resumable"] == "1.0.0"
    _, shown = await studio.ask("GET", path.removeprefix("/api/v1/comfyui"))
    assert (shown["state"], shown["error"]["code"]) == ("failed", "not_safetensors")
    assert (await patch(studio, path, 0, DATA))[0] == 409


async def test_a_length_that_the_header_denies_is_refused(studio: Studio) -> None:
    path = await begin(studio, len(DATA) + 1)
    status, body, _ = await patch(studio, path, 0, DATA[:1000])
    assert (status, body["error"]["code"]) == (415, "not_safetensors")


async def test_more_bytes_than_were_announced_are_not_kept(studio: Studio) -> None:
    path = await begin(studio)
    status, body, _ = await patch(studio, path, 0, DATA + b"more")
    assert (status, body["error"]["code"]) == (422, "upload_too_long")


async def test_an_upload_can_be_ended(studio: Studio) -> None:
    path = await begin(studio)
    await patch(studio, path, 0, DATA[:500])
    assert (await send(studio, "DELETE", path))[0] == 204
    assert (await send(studio, "HEAD", path))[0] == 404
    assert (await send(studio, "DELETE", path))[0] == 404
    other = await begin(studio)
    assert (await send(studio, "POST", other, X_HTTP_Method_Override="DELETE"))[0] == 204
    assert (await send(studio, "POST", other, X_HTTP_Method_Override="BREW"))[0] == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Upload-Length": "-1"}, 422),
        ({"Upload-Length": "0"}, 422),
        ({"Upload-Length": "1e3"}, 422),
        ({"Upload-Length": "9" * 15}, 413),
        ({"Upload-Length": "9" * 40}, 422),
        ({"Upload-Defer-Length": "1"}, 422),
        ({"Upload-Length": "100", "Upload-Metadata": "filename ???"}, 422),
        ({"Upload-Length": "100", "Upload-Metadata": "filename AA=="}, 422),
        ({"Upload-Length": "100", "Upload-Metadata": metadata(filename="../x")}, 422),
        ({"Upload-Length": "100", "Upload-Metadata": metadata(name="nul")}, 422),
        ({"Upload-Length": "100", "Upload-Metadata": metadata(lora_id="mine")}, 422),
        ({"Upload-Length": "100", "Tus-Resumable": "0.2.2"}, 412),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_odd_headers_are_refused_before_any_byte(
    studio: Studio, headers: dict[str, str], status: int
) -> None:
    async with studio.session.post(studio.api + "/uploads", headers={**TUS, **headers}) as answer:
        assert answer.status == status
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        assert (await answer.json())["error"]["code"]
    _, listed = await studio.ask("GET", "/uploads")
    assert listed["items"] == []


async def test_other_content_types_are_refused(studio: Studio) -> None:
    path = await begin(studio)
    status, body, _ = await send(
        studio, "PATCH", path, DATA, Upload_Offset="0", Content_Type="text/plain"
    )
    assert (status, body["error"]["code"]) == (415, "wrong_content_type")


async def test_what_arrived_before_a_cut_stays_and_the_next_connection_goes_on(
    studio: Studio,
) -> None:
    path = await begin(studio)

    async def hanging() -> AsyncIterator[bytes]:
        yield DATA[:100_000]
        await asyncio.Event().wait()

    headers = {**BYTES, "Upload-Offset": "0"}
    sending = asyncio.create_task(
        _ignoring(studio.session.patch(studio.host + path, data=hanging(), headers=headers))
    )
    await asyncio.sleep(0.3)
    # the first connection still hangs: asking ends it
    at = await asyncio.wait_for(offset(studio, path), 5)
    assert 0 < at <= 100_000
    assert (await patch(studio, path, at, DATA[at:]))[0] == 204
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


async def _ignoring(request: Any) -> None:
    try:
        async with request:
            pass
    except aiohttp.ClientError:
        pass


async def test_a_stock_client_uploads_through_ten_cuts_and_a_restart(tmp_path: Path) -> None:
    data = lora_bytes(5, size=24 << 20)
    file = tmp_path / "big.safetensors"
    file.write_bytes(data)
    stack = ExitStack()
    stream = stack.enter_context(file.open("rb"))
    async with stand_in_at(tmp_path) as (_, url):
        settings = settings_for(tmp_path, url)
        async with running(settings) as first:
            proxy = CuttingProxy(int(first.host.rpartition(":")[2]))
            async with proxy.serving() as through:
                uploader = await asyncio.to_thread(
                    TusClient(f"{through}/api/v1/comfyui/uploads").uploader,
                    file_stream=stream, chunk_size=2 << 20, retries=20, retry_delay=0,
                    metadata={"filename": file.name},
                )  # fmt: skip
                proxy.cuts = [-((1 << 20) + n * 50_000) for n in range(5)]
                await asyncio.to_thread(uploader.upload, len(data) // 2)
        # the sidecar has stopped and starts again, elsewhere
        async with running(settings) as second:
            proxy = CuttingProxy(int(second.host.rpartition(":")[2]))
            async with proxy.serving() as through:
                uploader.set_url(through + "/api" + uploader.url.partition("/api")[2])
                uploader.offset = await asyncio.to_thread(uploader.get_offset)
                proxy.cuts = [-((1 << 20) + n * 50_000) for n in range(5)]
                await asyncio.to_thread(uploader.upload)
            _, loras = await second.ask("GET", "/loras")
            assert proxy.broken == 5
    stack.close()
    assert loras["items"][0]["sha256"] == hashlib.sha256(data).hexdigest()


async def test_an_upload_whose_last_byte_came_just_before_a_crash_becomes_a_lora(
    tmp_path: Path,
) -> None:
    async with stand_in_at(tmp_path) as (_, url):
        settings = settings_for(tmp_path, url)
        async with running(settings) as first:
            path = await begin(first)
            await patch(first, path, 0, DATA[:1000])
        # the bytes are on the disk, and no row says that all have come
        files = UploadFiles(settings.data_dir / "uploads")
        await files.append(UUID(path.rpartition("/")[2]), 1000, once(DATA[1000:]), None)
        async with running(settings) as second:
            shown: dict[str, Any] = {}
            while shown.get("state") != "stored":
                _, shown = await second.ask("GET", path.removeprefix("/api/v1/comfyui"))
                await asyncio.sleep(0.02)
            _, lora = await second.ask("GET", f"/loras/{shown['lora_id']}")
    assert lora["sha256"] == hashlib.sha256(DATA).hexdigest()


async def once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def test_an_unknown_checksum_begins_no_upload(studio: Studio) -> None:
    status, body, _ = await send(
        studio,
        "POST",
        "/api/v1/comfyui/uploads",
        DATA,
        Upload_Length=str(len(DATA)),
        Upload_Checksum="crc32 AAAA",
        Content_Type="application/offset+octet-stream",
    )
    assert (status, body["error"]["code"]) == (400, "unknown_checksum")
    _, listed = await studio.ask("GET", "/uploads")
    assert listed["items"] == []


async def test_an_upload_that_nobody_goes_on_with_expires(tmp_path: Path, clock: FakeClock) -> None:
    async with stand_in_at(tmp_path) as (_, url):
        settings = settings_for(tmp_path, url, ATELIER_UPLOAD_SECONDS=1)
        async with running(settings) as studio:
            path = await begin(studio)
            await asyncio.sleep(1.1)
            assert (await send(studio, "HEAD", path))[0] == 404
            assert (await patch(studio, path, 0, DATA))[0] == 404
    assert clock is not None

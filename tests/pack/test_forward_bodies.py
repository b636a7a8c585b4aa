"""Bodies of any size between ComfyUI's port and the sidecar, in constant memory."""

import gzip
import hashlib
import sys
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from wired_pack import Sidecar, Wired, wants_body

MIB = 1 << 20


async def digest(request: web.Request) -> web.Response:
    """Length and sha256 of the body."""
    await wants_body(request) if "Expect" in request.headers else None
    sha256, length = hashlib.sha256(), 0
    async for chunk in request.content.iter_any():
        sha256.update(chunk)
        length += len(chunk)
    return web.json_response({"bytes": length, "sha256": sha256.hexdigest()})


async def mebibytes(count: int) -> AsyncIterator[bytes]:
    """A body made on the fly."""
    for number in range(count):
        yield bytes([number % 256]) * MIB


async def test_a_packed_body_arrives_readable(wired: Wired, sidecar: Sidecar) -> None:
    sidecar.on("/thing", digest)

    response = await wired.client.post(
        "/api/v1/comfyui/thing",
        data=gzip.compress(b"hello" * 1000),
        headers={"Content-Encoding": "gzip"},
    )

    assert (await response.json())["bytes"] == 5000


@pytest.mark.parametrize("announced", [True, False])
async def test_a_large_upload_passes_in_constant_memory(
    wired: Wired, sidecar: Sidecar, announced: bool
) -> None:
    sidecar.on("/loras", digest)
    count = 300
    headers = {"Content-Length": str(count * MIB)} if announced else {}
    expected = hashlib.sha256()
    async for chunk in mebibytes(count):
        expected.update(chunk)
    before = _peak_bytes()

    response = await wired.client.post(
        "/api/v1/comfyui/loras", data=mebibytes(count), headers=headers
    )

    answer = await response.json()
    assert answer == {"bytes": count * MIB, "sha256": expected.hexdigest()}
    assert _peak_bytes() - before < 100 * MIB


async def test_a_large_download_passes_in_constant_memory(wired: Wired, sidecar: Sidecar) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(300 * MIB)})
        await response.prepare(request)
        async for chunk in mebibytes(300):
            await response.write(chunk)
        return response

    sidecar.on("/file", answer)
    before = _peak_bytes()

    response = await wired.client.get("/api/v1/comfyui/file")

    length = 0
    async for chunk in response.content.iter_any():
        length += len(chunk)
    assert length == 300 * MIB
    assert _peak_bytes() - before < 100 * MIB


async def test_the_sidecar_decides_whether_an_expectant_client_sends(
    wired: Wired, sidecar: Sidecar
) -> None:
    sidecar.on("/loras", digest)
    head = "POST /api/v1/comfyui/loras HTTP/1.1\nHost: h\nContent-Length: 5\nExpect: 100-continue"

    connection = await wired.raw(head)
    assert (await connection.head()).startswith(b"HTTP/1.1 100 ")
    connection.writer.write(b"hello")

    assert b" 200 " in await connection.head()
    assert sidecar.expects == 1
    await connection.close()


async def test_an_expectant_client_may_be_refused_before_it_sends(
    wired: Wired, sidecar: Sidecar
) -> None:
    async def refuse(_request: web.Request) -> web.Response:
        return web.Response(status=413)

    sidecar.on("/loras", refuse)
    head = "POST /api/v1/comfyui/loras HTTP/1.1\nHost: h\nContent-Length: 5\nExpect: 100-continue"

    connection = await wired.raw(head)

    assert b" 413 " in await connection.head()
    await connection.close()


async def test_an_early_refusal_reaches_a_client_that_still_sends(
    wired: Wired, sidecar: Sidecar
) -> None:
    async def refuse(_request: web.Request) -> web.Response:
        return web.json_response({"error": {"code": "file_too_large"}}, status=413)

    sidecar.on("/loras", refuse)

    connection = await wired.raw(
        "POST /api/v1/comfyui/loras HTTP/1.1\nHost: h\nContent-Length: 9999999999", b"x" * MIB
    )

    head = await connection.head()
    assert b" 413 " in head
    assert b"connection: close" in head.lower()
    assert b"file_too_large" in await connection.reader.read(100)
    await connection.close()


def _peak_bytes() -> int:
    resource = pytest.importorskip("resource", reason="Windows has no getrusage")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

"""Whoever leaves an exchange, the other side is told, and nothing short looks whole."""

import asyncio

import pytest
from aiohttp import ClientPayloadError, web
from waiting import until
from wired_pack import Sidecar, Wired


async def _gone(request: web.Request) -> bool:
    return request.transport is None


class Visit:
    """A request to the sidecar that ends only when its client leaves."""

    def __init__(self, *, answers: bool) -> None:
        self._answers = answers
        self.begun = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Wait for the other side's end."""
        response = web.StreamResponse()
        if self._answers:
            await response.prepare(request)
            await response.write(b"data: hello\n\n")
        self.begun.set()
        await until(lambda: _gone(request))
        self.left.set()
        return response


@pytest.mark.parametrize("answers", [True, False])
async def test_a_client_that_leaves_a_silent_exchange_frees_the_sidecar(
    wired: Wired, sidecar: Sidecar, answers: bool
) -> None:
    visit = Visit(answers=answers)
    sidecar.on("/events", visit)
    connection = await wired.raw("GET /api/v1/comfyui/events HTTP/1.1\nHost: h")
    await visit.begun.wait()

    await connection.close()

    await visit.left.wait()


async def test_a_client_that_leaves_a_download_frees_the_sidecar(
    wired: Wired, sidecar: Sidecar
) -> None:
    ended = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        except ConnectionError:
            ended.set()
        return response

    sidecar.on("/file", endless)
    connection = await wired.raw("GET /api/v1/comfyui/file HTTP/1.1\nHost: h")
    await connection.reader.read(100_000)

    await connection.close()

    await ended.wait()


@pytest.mark.parametrize("framing", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
async def test_an_upload_that_breaks_off_never_looks_whole(
    wired: Wired, sidecar: Sidecar, framing: str
) -> None:
    outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    begun = asyncio.Event()

    async def take(request: web.Request) -> web.Response:
        try:
            async for _chunk in request.content.iter_any():
                begun.set()
        except Exception as error:
            outcome.set_result(type(error).__name__)
            raise
        outcome.set_result("whole")
        return web.Response()

    sidecar.on("/loras", take)
    connection = await wired.raw(
        f"POST /api/v1/comfyui/loras HTTP/1.1\nHost: h\n{framing}", b"5\r\nhello\r\n"
    )
    await begun.wait()

    await connection.close()

    assert await outcome != "whole"


@pytest.mark.parametrize("size", [None, 1000])
async def test_an_answer_that_breaks_off_is_cut(
    wired: Wired, sidecar: Sidecar, size: int | None
) -> None:
    async def die(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = size
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    sidecar.on("/file", die)

    async with wired.client.get("/api/v1/comfyui/file") as response:
        with pytest.raises((ClientPayloadError, ConnectionError)):
            await response.read()


async def test_a_sidecar_that_dies_during_an_upload_counts_as_away(
    wired: Wired, sidecar: Sidecar
) -> None:
    async def die(request: web.Request) -> web.Response:
        await request.content.readany()
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    sidecar.on("/loras", die)

    connection = await wired.raw(
        "POST /api/v1/comfyui/loras HTTP/1.1\nHost: h\nContent-Length: 99999999", b"x" * 1000
    )

    assert b" 503 " in await connection.head()
    await connection.close()


async def test_a_body_is_never_sent_twice(wired: Wired, sidecar: Sidecar) -> None:
    bodies = []

    async def die_at_first(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        if len(bodies) == 2:
            assert request.transport is not None
            request.transport.abort()
        return web.Response()

    sidecar.on("/thing", die_at_first)
    # the second goes over a connection that was kept open, which aiohttp would try again
    await wired.client.put("/api/v1/comfyui/thing", data=b"one")

    response = await wired.client.put("/api/v1/comfyui/thing", data=b"two")

    assert response.status == 503
    assert b"" not in bodies

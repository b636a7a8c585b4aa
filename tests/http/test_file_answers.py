"""Files that never change: whole, in ranges, or not at all when the caller has them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from sidecar.errors import NotFoundError
from sidecar.http.files import Download, send_file

BYTES = bytes(range(100))
ETAG = '"0a1b2c"'


def sending(name: str = "picture.png", data: bytes = BYTES, promised: int | None = None):
    """A handler that sends ``data``, or claims that it has ``promised`` bytes."""

    @asynccontextmanager
    async def opened(start: int, length: int) -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            wanted = data[start : start + length]
            for at in range(0, len(wanted), 7):
                yield wanted[at : at + 7]

        yield chunks()

    async def handler(request: web.Request) -> web.StreamResponse:
        size = len(data) if promised is None else promised
        download = Download(name, "image/png", size, "0a1b2c", inline=True)
        return await send_file(request, download, opened)

    return handler


async def test_a_file_is_sent_whole_with_its_tag(serve):
    client = await serve(sending())
    async with client.get("/thing") as response:
        assert (response.status, await response.read()) == (200, BYTES)
        assert response.headers["ETag"] == ETAG
        assert response.headers["Accept-Ranges"] == "bytes"
        assert "Content-Range" not in response.headers


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=90-", 90, 100),
        ("bytes=0-", 0, 100),
        ("bytes=-5", 95, 100),
        ("bytes=-1000", 0, 100),
        ("bytes=90-1000", 90, 100),
    ],
)
async def test_a_range_is_sent_as_such(serve, asked, start, stop):
    client = await serve(sending())
    async with client.get("/thing", headers={"Range": asked}) as response:
        assert (response.status, await response.read()) == (206, BYTES[start:stop])
        assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/100"


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=1000-2000"])
async def test_a_range_outside_the_file_is_refused_with_the_size(serve, asked):
    client = await serve(sending())
    async with client.get("/thing", headers={"Range": asked}) as response:
        assert response.status == 416
        assert response.headers["Content-Range"] == "bytes */100"
        error = (await response.json())["error"]
        assert (error["code"], error["details"]) == ("range_not_satisfiable", {"size": 100})


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "bytes"])
async def test_a_range_that_cannot_be_read_is_ignored(serve, asked):
    client = await serve(sending())
    async with client.get("/thing", headers={"Range": asked}) as response:
        assert (response.status, await response.read()) == (200, BYTES)


async def test_a_range_of_this_very_file_is_sent(serve):
    client = await serve(sending())
    headers = {"Range": "bytes=1-2", "If-Range": ETAG}
    async with client.get("/thing", headers=headers) as response:
        assert (response.status, await response.read()) == (206, BYTES[1:3])


@pytest.mark.parametrize("condition", ['"another"', "Wed, 21 Oct 2026 07:28:00 GMT", f"W/{ETAG}"])
async def test_a_range_of_another_file_is_this_one_whole(serve, condition):
    client = await serve(sending())
    headers = {"Range": "bytes=1-2", "If-Range": condition}
    async with client.get("/thing", headers=headers) as response:
        assert (response.status, await response.read()) == (200, BYTES)


@pytest.mark.parametrize("held", [ETAG, f'"x", {ETAG}', f"W/{ETAG}", "*"])
async def test_who_has_it_already_gets_304(serve, held):
    client = await serve(sending())
    async with client.get("/thing", headers={"If-None-Match": held}) as response:
        assert (response.status, await response.read()) == (304, b"")
        assert response.headers["ETag"] == ETAG


async def test_who_has_another_one_gets_this_one(serve):
    client = await serve(sending())
    async with client.get("/thing", headers={"If-None-Match": '"another"'}) as response:
        assert (response.status, await response.read()) == (200, BYTES)


async def test_head_tells_the_size_and_sends_nothing(serve):
    client = await serve(sending())
    async with client.head("/thing", headers={"Range": "bytes=1-2"}) as response:
        assert (response.status, await response.read()) == (200, b"")
        assert response.headers["Content-Length"] == "100"


async def test_an_empty_file_is_sent(serve):
    client = await serve(sending(data=b""))
    async with client.get("/thing") as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_a_file_that_is_gone_is_404_and_no_broken_stream(serve):
    @asynccontextmanager
    async def gone(_start: int, _length: int) -> AsyncIterator[AsyncIterator[bytes]]:
        raise NotFoundError("blob")
        yield

    async def handler(request: web.Request) -> web.StreamResponse:
        return await send_file(request, Download("x", "image/png", 5, "0a"), gone)

    client = await serve(handler)
    async with client.get("/thing") as response:
        assert response.status == 404


async def test_a_file_that_has_become_shorter_is_cut_and_not_passed_off_as_whole(serve):
    client = await serve(sending(promised=200))
    async with client.get("/thing") as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


@pytest.mark.parametrize(
    "name", ['a"b.png', "å ö.png", "a\r\nSet-Cookie: x=y.png", "../../x;y.png"]
)
async def test_a_hostile_file_name_stays_within_its_header(serve, name):
    client = await serve(sending(name))
    async with client.get("/thing") as response:
        assert response.content_disposition is not None
        assert response.content_disposition.type == "inline"
        assert "Set-Cookie" not in response.headers
        header = response.headers["Content-Disposition"]
        assert header.startswith("inline; filename*=UTF-8''")
        assert not set(header.removeprefix("inline; filename*=UTF-8''")) & set('"\r\n;/ ')


async def test_a_browser_does_not_run_what_a_run_made(serve):
    client = await serve(sending("page.html"))
    async with client.get("/thing") as response:
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Content-Security-Policy"] == "sandbox"

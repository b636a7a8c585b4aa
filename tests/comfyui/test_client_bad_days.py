"""The client when ComfyUI is away, slow, broken, or something else altogether."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from sample_graphs import txt2img

from sidecar.comfyui import OutputFile
from sidecar.comfyui.client import HttpComfyUI, connected
from sidecar.comfyui.stand_in import StandIn, serving
from sidecar.errors import (
    AtelierError,
    InvalidError,
    TimedOutError,
    UnavailableError,
    UpstreamError,
)

Call = Callable[[HttpComfyUI], Awaitable[Any]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def _listen(comfyui: HttpComfyUI) -> list[str]:
    async with comfyui.messages() as messages:
        return [message.type async for message in messages]


async def _open(comfyui: HttpComfyUI) -> bytes:
    async with comfyui.open_file(OutputFile("a.png", "", "output")) as chunks:
        return b"".join([chunk async for chunk in chunks])


CALLS: dict[str, Call] = {
    "object_info": lambda comfyui: comfyui.object_info(),
    "fresh object_info": lambda comfyui: comfyui.object_info(fresh=True),
    "lora_files": lambda comfyui: comfyui.lora_files(),
    "submit": lambda comfyui: comfyui.submit("id", 1, txt2img(), {}),
    "find": lambda comfyui: comfyui.find("id"),
    "withdraw": lambda comfyui: comfyui.withdraw("id"),
    "messages": _listen,
    "open_file": _open,
    "system_stats": lambda comfyui: comfyui.system_stats(),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())


@asynccontextmanager
async def _answering(handler: Handler, **options: Any) -> AsyncIterator[HttpComfyUI]:
    """A client of a server that answers everything with ``handler``."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with connected(url, client_id="me", **options) as comfyui:
            yield comfyui
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _raw(sent: bytes, *, reset: bool = False) -> AsyncIterator[str]:
    """The URL of a port that answers each connection with these bytes and hangs up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        if reset:
            writer.transport.abort()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


async def _refused(comfyui: HttpComfyUI, call: Call) -> AtelierError:
    with pytest.raises(AtelierError) as caught:
        await call(comfyui)
    assert caught.value.details["system"] == "comfyui"
    return caught.value


@every_call
async def test_a_comfyui_that_is_away_is_unavailable(call: Call) -> None:
    async with _raw(b"") as url:
        pass
    async with connected(url, client_id="me") as comfyui:
        error = await _refused(comfyui, call)
    assert isinstance(error, UnavailableError)
    assert error.code == "comfyui_unavailable"


@every_call
async def test_a_connection_that_is_cut_without_an_answer_is_unavailable(call: Call) -> None:
    async with _raw(b"", reset=True) as url, connected(url, client_id="me") as comfyui:
        assert isinstance(await _refused(comfyui, call), UnavailableError)


@every_call
async def test_a_slow_comfyui_is_timed_out(call: Call) -> None:
    async def never(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3600)
        return web.Response()

    async with _answering(never, read_seconds=0.05) as comfyui:
        assert isinstance(await _refused(comfyui, call), TimedOutError)


@every_call
@pytest.mark.parametrize("status", [302, 401, 403, 500, 502])
async def test_an_error_status_names_the_request_and_the_status(call: Call, status: int) -> None:
    async def fail(_request: web.Request) -> web.StreamResponse:
        headers = {"Location": "/somewhere"} if status == 302 else {}
        return web.Response(status=status, text="<html>", headers=headers)

    async with _answering(fail) as comfyui:
        error = await _refused(comfyui, call)
    assert isinstance(error, UpstreamError)  # of submit as well: its first question is a GET
    assert error.details["request"].startswith(("GET /", "POST /"))
    assert call is _listen or error.details["status"] == status


@pytest.mark.parametrize(
    ("status", "for_good"),
    [
        *((status, True) for status in (400, 401, 403, 404, 413, 418)),
        *((status, False) for status in (302, 408, 425, 429, 500, 503)),
    ],
)
async def test_a_prompt_that_something_in_front_refuses_is_refused_for_good_unless_it_may_pass(
    status: int, for_good: bool
) -> None:
    async def in_front(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            return web.Response(status=status, text="<html>")
        empty = {"queue_running": [], "queue_pending": []}
        return web.json_response(empty if request.path == "/queue" else {})

    async with _answering(in_front) as comfyui:
        error = await _refused(comfyui, CALLS["submit"])
    assert error.details["status"] == status
    assert isinstance(error, InvalidError) == for_good
    assert error.code == ("comfyui_refused" if for_good else "comfyui_failed")


@every_call
async def test_a_page_where_data_was_asked_for_is_no_answer(call: Call) -> None:
    async def page(_request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>sign in</html>", content_type="text/html")

    async with _answering(page) as comfyui:
        assert isinstance(await _refused(comfyui, call), UpstreamError)


@pytest.mark.parametrize("name", ["object_info", "lora_files", "find", "withdraw", "system_stats"])
@pytest.mark.parametrize("body", ["[1]", '{"a": 1}', "null", "7", "[" * 100_000])
async def test_json_of_another_shape_is_no_answer(name: str, body: str) -> None:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(text=body, content_type="application/json")

    async with _answering(answer) as comfyui:
        assert isinstance(await _refused(comfyui, CALLS[name]), UpstreamError)


@every_call
async def test_bytes_that_are_not_http_are_no_answer(call: Call) -> None:
    async with _raw(b"SSH-2.0-OpenSSH\r\n\r\n") as url, connected(url, client_id="me") as comfyui:
        assert isinstance(await _refused(comfyui, call), UpstreamError | UnavailableError)


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
@pytest.mark.parametrize("name", ["object_info", "lora_files", "find", "system_stats", "open_file"])
async def test_an_answer_that_ends_early_is_unavailable(name: str, reset: bool) -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    async with _raw(half, reset=reset) as url, connected(url, client_id="me") as comfyui:
        assert isinstance(await _refused(comfyui, CALLS[name]), UnavailableError)


async def test_a_file_that_stops_coming_is_timed_out() -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        await asyncio.sleep(3600)
        return response

    async with _answering(half, read_seconds=0.05) as comfyui:
        assert isinstance(await _refused(comfyui, _open), TimedOutError)


async def test_the_readers_own_error_is_not_blamed_on_comfyui(tmp_path: Path) -> None:
    stand_in = StandIn(tmp_path / "base", tmp_path / "loras")
    (tmp_path / "base" / "output" / "a.png").write_bytes(bytes(1 << 20))

    async def store(comfyui: HttpComfyUI) -> None:
        async with comfyui.open_file(OutputFile("a.png", "", "output")) as chunks:
            async for _ in chunks:
                raise OSError("disk")

    async with serving(stand_in) as url, connected(url, client_id="me") as comfyui:
        with pytest.raises(OSError, match="disk"):
            await store(comfyui)


async def test_a_wrong_password_is_said_to_be_one() -> None:
    async def guarded(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != "Basic YW5uOnDDpHNzd29yZA==":
            raise web.HTTPUnauthorized
        stats = {"comfyui_version": "0.3.64", "python_version": "3.11"}
        return web.json_response({"system": stats})

    async with _answering(guarded, user="ann", password="wrong") as comfyui:
        error = await _refused(comfyui, CALLS["system_stats"])
        assert "COMFYUI_WEB_PASSWORD" in error.message
        assert "wrong" not in str(error.details)
    async with _answering(guarded, user="ann", password="pässword") as comfyui:
        assert (await comfyui.system_stats()).comfyui_version == "0.3.64"


async def test_a_user_and_password_may_stand_in_the_url(tmp_path: Path) -> None:
    stand_in = StandIn(tmp_path / "base", tmp_path / "loras")
    async with serving(stand_in) as url:
        with_password = url.replace("://", "://ann:secret@")
        async with connected(with_password, client_id="me") as comfyui:
            await comfyui.lora_files()
    sent = stand_in.requests[-1].headers["Authorization"]
    assert sent == "Basic YW5uOnNlY3JldA=="


async def test_a_path_in_the_url_comes_before_comfyuis_own() -> None:
    seen = []

    async def note(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        return web.json_response([])

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", note)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/gpu/one"
    async with connected(url, client_id="me") as comfyui:
        await comfyui.lora_files()
    await runner.cleanup()
    assert seen == ["/gpu/one/models/loras"]


async def test_a_prompt_that_was_given_another_id_is_taken_back() -> None:
    posted = []

    async def old(request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/history"):
            return web.json_response({})
        if request.path == "/queue" and request.method == "GET":
            return web.json_response({"queue_running": [], "queue_pending": [[0, "theirs", {}]]})
        posted.append((request.path, await request.json()))
        return web.json_response({"prompt_id": "theirs"})

    async with _answering(old) as comfyui:
        with pytest.raises(UpstreamError, match="too old"):
            await comfyui.submit("ours", 1, txt2img(), {})
    assert posted[0][1]["prompt_id"] == "ours"
    assert posted[1] == ("/queue", {"delete": ["theirs"]})


async def test_a_submission_carries_the_pack_token_and_its_attempt(tmp_path: Path) -> None:
    stand_in = StandIn(tmp_path / "base", tmp_path / "loras")
    async with (
        serving(stand_in) as url,
        connected(url, client_id="me", pack_token="token") as comfyui,
    ):
        prompt = txt2img()
        del prompt["2"]
        for node, name in (("3", "clip"), ("4", "clip"), ("6", "model")):
            prompt[node]["inputs"][name] = ["1", 1 if name == "clip" else 0]
        await comfyui.submit("an-id", 3, prompt, {})
    (post,) = [request for request in stand_in.requests if request.path == "/prompt"]
    assert post.headers["X-Atelier-Pack"] == "token"
    assert post.headers["X-Atelier-Submission"] == "an-id/3"
    others = [request for request in stand_in.requests if request.path != "/prompt"]
    assert not [request for request in others if "X-Atelier-Pack" in request.headers]

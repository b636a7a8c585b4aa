"""The client's websocket on bad days: cut, silent, or full of what is not ComfyUI's."""

import asyncio
import base64
import contextlib
import hashlib
import re
from pathlib import Path

from aiohttp import web
from sample_graphs import txt2img
from waiting import until

from sidecar.comfyui import Place
from sidecar.comfyui.client import connected
from sidecar.comfyui.stand_in import StandIn, serving

WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


async def test_messages_end_when_the_websocket_is_cut(tmp_path: Path) -> None:
    stand_in = StandIn(tmp_path / "base", tmp_path / "loras")
    async with (
        serving(stand_in) as url,
        connected(url, client_id="me") as comfyui,
        comfyui.messages() as messages,
    ):
        kinds = []
        async for message in messages:
            kinds.append(message.type)
            await stand_in.drop_websockets()
    assert kinds == ["status"]


async def test_a_silent_websocket_does_not_keep_anybody_from_the_history(tmp_path: Path) -> None:
    loras_dir = tmp_path / "loras"
    stand_in = StandIn(tmp_path / "base", loras_dir)
    stand_in.silent_websocket = True
    prompt = txt2img()
    prompt["2"]["inputs"].update(strength_model=0, strength_clip=0)
    (loras_dir / "lora-a.safetensors").write_bytes(b"")
    async with (
        serving(stand_in) as url,
        connected(url, client_id="me") as comfyui,
        comfyui.messages() as messages,
    ):
        listening = asyncio.ensure_future(anext(messages))
        await comfyui.submit("id", 1, prompt, {})

        async def finished() -> bool:
            return (await comfyui.find("id")).place is Place.FINISHED

        await until(finished)
        assert not listening.done()
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening


async def test_messages_end_when_the_other_end_is_dead() -> None:
    async def shake_hands_and_die(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        (key,) = re.findall("sec-websocket-key: (.*)\r\n", request, re.IGNORECASE)
        proof = base64.b64encode(hashlib.sha1(f"{key}{WEBSOCKET_GUID}".encode()).digest())  # noqa: S324
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        writer.write(head + b"Sec-WebSocket-Accept: " + proof + b"\r\n\r\n")
        await reader.read()  # pings arrive and are never answered
        writer.close()

    server = await asyncio.start_server(shake_hands_and_die, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with (
        connected(url, client_id="me", heartbeat_seconds=0.1) as comfyui,
        comfyui.messages() as messages,
    ):
        assert [message async for message in messages] == []
    server.close()
    await server.wait_closed()


async def test_frames_that_are_not_comfyuis_are_passed_over() -> None:
    async def chatter(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for text in ("not json", "[]", '{"type": 1, "data": {}}', '{"type": "x"}', "[" * 9999):
            await socket.send_str(text)
        await socket.send_bytes(b"\0\0\0\1preview")
        await socket.send_str('{"type": "status", "data": {"of": "ours"}}')
        await socket.close()
        return socket

    app = web.Application()
    app.router.add_get("/ws", chatter)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with connected(url, client_id="me") as comfyui, comfyui.messages() as messages:
        kinds = [message.type async for message in messages]
    await runner.cleanup()
    assert kinds == ["status"]

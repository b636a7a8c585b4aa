"""The pack wired into a fake ComfyUI, and a sidecar whose answers the test writes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import ClientSession, web
from server import PromptServer  # noqa: TID253 -- the fake

from server_routes.address import SidecarAddress

TOKEN = "pack-token"

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Sidecar:
    """A sidecar whose answers the test gives; remembers the paths it was asked for."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.answers: dict[str, Answer] = {}
        self.expects = 0
        self.app = web.Application(client_max_size=1 << 30)
        self.app.router.add_route("*", "/{tail:.*}", self._answer, expect_handler=self._expect)

    def on(self, path: str, answer: Answer) -> None:
        """Answer requests for this path (below ``/api/v1/comfyui`` unless it is internal)."""
        self.answers[path if path.startswith("/internal") else "/api/v1/comfyui" + path] = answer

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.rel_url.raw_path)
        answer = self.answers.get(request.path)
        if answer is None:
            error = {"code": "route_not_found", "message": "", "details": {}}
            return web.json_response({"error": error}, status=404)
        return await answer(request)

    async def _expect(self, _request: web.Request) -> None:
        """A handler that wants the body calls ``wants_body``."""
        self.expects += 1


async def wants_body(request: web.Request) -> None:
    """Say 100 Continue."""
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0


@dataclass
class Wired:
    """The fake server with the pack wired in, listening."""

    host: PromptServer
    address: SidecarAddress
    client: ClientSession
    port: int

    @property
    def queued(self) -> list[str]:
        """The ids of the prompts in its queue."""
        return [item[1] for item in self.host.prompt_queue.queue]

    async def raw(self, head: str, body: bytes = b"") -> "Raw":
        """A connection on which the test writes what it likes; ``head`` is the request so far."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        await writer.drain()
        return Raw(reader, writer)


@dataclass
class Raw:
    """One connection to ComfyUI's port."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def head(self) -> bytes:
        """The next status line and headers."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def close(self) -> None:
        """Leave."""
        self.writer.close()


@asynccontextmanager
async def listening(app: web.Application) -> AsyncIterator[int]:
    """Serve as ComfyUI does: handlers are not cancelled when their client leaves. The port."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()

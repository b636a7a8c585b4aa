"""A server whose endpoints are counted, and can be made to misbehave while it runs."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDict

Trouble = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]
"""Answers in place of an endpoint, whose own handler comes second."""


class TroubledServer:
    """``asked`` counts the requests of each endpoint, ``trouble`` holds what it answers instead.

    An endpoint is known by the name of its route. ``headers`` are those of every request.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.headers: list[CIMultiDict[str]] = []
        self.trouble: dict[str, Trouble] = {}
        self.url = ""

    def routes(self) -> list[web.RouteDef]:
        """The endpoints, each with a name."""
        raise NotImplementedError

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[str]:
        """Serve on 127.0.0.1; the URL."""
        app = web.Application(middlewares=[self._middleware()])
        app.add_routes(self.routes())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self.url
        finally:
            await runner.cleanup()

    def _middleware(self) -> Middleware:
        @web.middleware
        async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
            name = request.match_info.route.name or request.path
            self.asked[name] += 1
            self.headers.append(request.headers.copy())
            trouble = self.trouble.get(name)
            return await (handler(request) if trouble is None else trouble(request, handler))

        return handle


class Held:
    """Nobody is answered until ``release`` is set; ``arrived`` is set once somebody has asked."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Wait, then answer as usual."""
        self.arrived.set()
        await self.release.wait()
        return await handler(request)


def slow(seconds: float) -> Trouble:
    """As usual, but so late."""

    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await handler(request)

    return answer


def answering(
    body: bytes = b"", status: int = 200, headers: dict[str, str] | None = None
) -> Trouble:
    """Always this."""

    async def answer(_request: web.Request, _handler: Handler) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers=headers)

    return answer


def answering_json(value: Any, status: int = 200) -> Trouble:
    """Always this JSON."""

    async def answer(_request: web.Request, _handler: Handler) -> web.StreamResponse:
        return web.json_response(value, status=status)

    return answer


async def hanging_up(request: web.Request, _handler: Handler) -> web.StreamResponse:
    """The connection ends without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def dripping(request: web.Request, _handler: Handler) -> web.StreamResponse:
    """An answer that always goes on, a little at a time."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.02)


async def endless(request: web.Request, _handler: Handler) -> web.StreamResponse:
    """An answer without an end."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * (1 << 16))

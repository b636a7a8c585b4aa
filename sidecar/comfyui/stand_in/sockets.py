"""The websockets: who is connected under which client id, and messages in their order."""

import asyncio
import contextlib
import json
from typing import Any
from uuid import uuid4

from aiohttp import web


class Sockets:
    """As in ComfyUI a second socket takes a client id over, and its end forgets the id."""

    def __init__(self) -> None:
        self._by_client: dict[str, web.WebSocketResponse] = {}
        self._transports: set[asyncio.Transport] = set()
        self._outgoing: asyncio.Queue[tuple[str, str | None]] = asyncio.Queue()
        self.silent = False

    def say(self, kind: str, data: Any, client_id: str | None) -> None:
        """Queue a message for one client, or for everybody; does not wait."""
        self._outgoing.put_nowait((json.dumps({"type": kind, "data": data}), client_id))

    async def publish(self) -> None:
        """Send what was said, for ever."""
        while True:
            text, client_id = await self._outgoing.get()
            if client_id is None:
                to = list(self._by_client.values())
            else:
                to = [self._by_client[client_id]] if client_id in self._by_client else []
            for socket in to:
                await self._send(socket, text)

    async def serve(self, request: web.Request, status: dict[str, Any]) -> web.WebSocketResponse:
        """One connection, until it closes."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        client_id = request.query.get("clientId") or uuid4().hex
        self._by_client[client_id] = socket
        transport = request.transport
        assert transport is not None  # noqa: S101 -- prepare() has just written to it
        self._transports.add(transport)
        try:
            hello = {"type": "status", "data": {"status": status, "sid": client_id}}
            await self._send(socket, json.dumps(hello))
            async for _ in socket:
                pass
        finally:
            self._by_client.pop(client_id, None)
            self._transports.discard(transport)
        return socket

    async def drop(self) -> None:
        """Cut every connection, without a word of goodbye."""
        self._by_client.clear()
        for transport in self._transports:
            transport.abort()
        await asyncio.sleep(0)  # let the handlers notice

    async def _send(self, socket: web.WebSocketResponse, text: str) -> None:
        if not self.silent:
            with contextlib.suppress(ConnectionError):
                await socket.send_str(text)

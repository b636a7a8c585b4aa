"""What the websocket said and nobody has read yet."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator

import aiohttp

from . import Message

PROGRESS = frozenset({"progress", "progress_state", "status"})
"""Superseded by the next of its kind, so the first to go."""


class Inbox(AsyncIterator[Message]):
    """A bounded buffer: the socket is always read.

    ComfyUI sends to its sockets one after the other, so a socket that is not read stops the
    messages to everybody. When the buffer is full, old progress goes first.
    """

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._waiting: deque[Message] = deque()
        self._news = asyncio.Event()
        self._ended = False

    async def fill(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Read the socket until it closes, or until what must not be lost no longer fits."""
        try:
            async for frame in socket:
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    continue  # binary frames are preview pictures
                message = _parse(frame.data)
                if message is not None and not self.put(message):
                    return
        finally:
            self._ended = True
            self._news.set()

    def put(self, message: Message) -> bool:
        """Take a message; False when there is no room even without the progress."""
        if len(self._waiting) >= self._limit:
            if (old := self._oldest_progress()) is not None:
                del self._waiting[old]
            else:
                return message.type in PROGRESS
        self._waiting.append(message)
        self._news.set()
        return True

    async def __anext__(self) -> Message:
        """The next message; the end when the connection has ended and all is read."""
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()

    def _oldest_progress(self) -> int | None:
        return next((i for i, held in enumerate(self._waiting) if held.type in PROGRESS), None)


def _parse(text: str) -> Message | None:
    """A message in ComfyUI's form; None for anything else that a pack may send."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    match value:
        case {"type": str(kind), "data": dict(data)}:
            return Message(kind, data)
        case _:
            return None

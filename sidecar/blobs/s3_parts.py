"""One multipart upload: a stream, cut into parts that are sent a few at a time."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine
from typing import Any

from minio.datatypes import Part

PARTS_AT_ONCE = 3


class Sending:
    """The parts of one upload, a few at a time."""

    def __init__(self, send: Callable[[int, bytes], Coroutine[Any, Any, Part]]) -> None:
        self._send = send
        self._count = 0
        self._sent: list[Part] = []
        self._under_way: set[asyncio.Task[Part]] = set()
        self.size = 0

    async def send(self, data: bytes) -> None:
        """Begin to send a part, when few enough are under way."""
        if len(self._under_way) >= PARTS_AT_ONCE:
            await self._next()
        self._count += 1
        self.size += len(data)
        self._under_way.add(asyncio.create_task(self._send(self._count, data)))

    async def ended(self) -> list[Part]:
        """Every part, when all have been sent."""
        while self._under_way:
            await self._next()
        return sorted(self._sent, key=lambda part: part.part_number)

    async def cancelled(self) -> None:
        """Wait until no part is under way: a store might take one after the abort."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _next(self) -> None:
        done, self._under_way = await asyncio.wait(
            self._under_way, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            self._sent.append(task.result())


async def cut(chunks: AsyncIterable[bytes], size: int) -> AsyncGenerator[bytes, None]:
    """The bytes in pieces of one size, but the last."""
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        while len(held) >= size:
            with memoryview(held) as view:
                piece = bytes(view[:size])
            del held[:size]
            yield piece
    if held:
        yield bytes(held)

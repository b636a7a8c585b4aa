"""A TCP proxy in front of a server, that breaks connections off and changes bytes on the way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from ports import HOST


class CuttingProxy:
    """Each connection is treated as ``cuts`` and ``flips`` say, those from the front first.

    ``cuts``: after how many bytes *to* the client (positive) or *from* it (negative) the next
    connections break; 0: that one is let through. ``flips``: which byte to the client is changed.
    Only connections that carry so many bytes use one up.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.port = 0
        self.cuts: list[int] = []
        self.flips: list[int] = []
        self.broken = 0
        self.flipped = 0
        self._open: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve on 127.0.0.1; the URL."""
        server = await asyncio.start_server(self._connection, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield f"http://{HOST}:{self.port}"
        finally:
            server.close()
            for writer in list(self._open):
                writer.transport.abort()
            await asyncio.sleep(0)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with suppress(OSError, asyncio.CancelledError):
                upstream = await asyncio.open_connection(HOST, self._target)
                self._open.add(upstream[1])
                await self._both_ways((reader, writer), upstream)
                upstream[1].transport.abort()
                self._open.discard(upstream[1])
        finally:
            writer.transport.abort()
            self._open.discard(writer)

    async def _both_ways(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        ways = [
            asyncio.create_task(self._pass_on(client[0], server[1], is_down=False)),
            asyncio.create_task(self._pass_on(server[0], client[1], is_down=True)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_down: bool
    ) -> None:
        seen = 0
        while data := await reader.read(1 << 16):
            if is_down and self.flips and seen <= self.flips[0] < seen + len(data):
                at = self.flips.pop(0) - seen
                data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
                self.flipped += 1
            seen += len(data)
            limit = self.cuts[0] if self.cuts else 0
            if limit != 0 and (limit > 0) == is_down and seen >= abs(limit):
                self.cuts.pop(0)
                self.broken += 1
                return
            writer.write(data)
            await writer.drain()

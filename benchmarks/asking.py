"""A client of one server, written for this: a general one would take more of the machine."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

_LONGEST_HEAD = 1 << 20


def request(method: str, url: str, *, token: str | None = None, order: Any = None) -> bytes:
    """It as sent; ``order`` is its JSON body."""
    parts = urlsplit(url)
    target = parts.path or "/"
    if parts.query:
        target += f"?{parts.query}"
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    body = b""
    if order is not None:
        body = json.dumps(order).encode()
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection:
    """One that stays open; asks one thing at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, asked: bytes) -> bytes:
        """The body of the answer; ends the benchmark when it is an error."""
        self._writer.write(asked)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await self._reader.readexactly(length)
        if not head.startswith(b"http/1.1 2"):
            raise SystemExit(f"{asked.split(b' HTTP')[0]!r} was answered {head[:40]!r} {body!r}")
        return body


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """A connection to the host of this URL."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=_LONGEST_HEAD)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


async def rate_for(url: str, asked: bytes, connections: int, seconds: float) -> float:
    """Ask the same over so many connections at once, for so long; answers a second."""
    until = time.perf_counter() + seconds
    return await _rate(url, asked, connections, lambda: time.perf_counter() < until)


async def rate_of(url: str, asked: bytes, connections: int, count: int) -> float:
    """The same, so many times in all."""
    left: Iterator[int] = iter(range(count))
    return await _rate(url, asked, connections, lambda: next(left, None) is not None)


async def _rate(url: str, asked: bytes, connections: int, goes_on: Callable[[], bool]) -> float:
    async def ask() -> int:
        answers = 0
        async with connected(url) as connection:
            while goes_on():
                await connection.ask(asked)
                answers += 1
        return answers

    began = time.perf_counter()
    counts = await asyncio.gather(*(ask() for _ in range(connections)))
    return sum(counts) / (time.perf_counter() - began)

"""Connections of psycopg that do not wait for ever.

A server that hangs keeps its side of a connection open, so neither the kernel nor libpq ever ends
the wait for its answer; the statement timeout is the server's own, and hangs with it.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from typing import Any

import psycopg


class BoundedConnection(psycopg.AsyncConnection[Any]):
    """Cuts itself when the server does nothing for ``answer_seconds`` while it is waited for."""

    answer_seconds = 20.0

    async def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        """See psycopg. OperationalError, as for any lost connection, when nothing is heard."""
        silence = _Silence(self.answer_seconds, self._cut)
        try:
            return await super().wait(silence.broken_by(gen), *arguments, **options)
        finally:
            silence.stop()

    def _cut(self) -> None:
        """Shut the socket down: whoever waits for it, a cancelled task too, reads its end."""
        with (
            suppress(OSError, psycopg.Error),
            socket.fromfd(self.pgconn.socket, socket.AF_INET, socket.SOCK_STREAM) as twin,
        ):
            twin.shutdown(socket.SHUT_RDWR)


class _Silence:
    """Calls ``too_long`` once nothing was heard for so many seconds."""

    def __init__(self, seconds: float, too_long: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._too_long = too_long
        self._heard = self._loop.time()
        self._timer = self._loop.call_later(seconds, self._look)

    def stop(self) -> None:
        """It matters no more."""
        self._timer.cancel()

    def broken_by(self, talk: Any) -> Generator[Any, Any, Any]:
        """A generator of psycopg's, which is sent what its socket is ready for."""
        try:
            wanted = next(talk)
            while True:
                ready = yield wanted
                if ready:  # it said something, or took something from us
                    self._heard = self._loop.time()
                wanted = talk.send(ready)
        except StopIteration as end:
            return end.value

    def _look(self) -> None:
        left = self._heard + self._seconds - self._loop.time()
        if left <= 0:
            self._too_long()
        else:
            self._timer = self._loop.call_later(left, self._look)


def bounded(answer_seconds: float) -> Callable[..., Awaitable[BoundedConnection]]:
    """What makes such connections, for SQLAlchemy."""

    async def connect(*arguments: Any, **options: Any) -> BoundedConnection:
        connection = await BoundedConnection.connect(*arguments, **options)
        connection.answer_seconds = answer_seconds
        return connection

    return connect

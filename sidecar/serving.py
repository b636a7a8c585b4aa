"""Serving the sidecar: listen, say where, stop gracefully."""

import asyncio
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from .app import make_app
from .http.request_log import AUDIT, JsonLines
from .settings import Settings

STOP_SECONDS = 15.0
"""Less than the pack waits before it ends its sidecar by force."""
SHUTDOWN_SECONDS = 3.0
"""Requests under way may end within so long; event streams never would."""


@asynccontextmanager
async def listening(settings: Settings) -> AsyncIterator[int]:
    """Serve until the block ends; yields the port."""
    runner = web.AppRunner(make_app(settings), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def serve(settings: Settings, *, child: bool) -> None:
    """Serve until SIGINT or SIGTERM; a child also ends when whoever started it is gone."""
    stop = asyncio.Event()
    _stop_on_signals(stop)
    if child:
        _stop_at_end_of_input(stop)
    async with listening(settings) as port:
        if child:
            sys.stdout.write(json.dumps({"atelier": "listening", "port": port}) + "\n")
            sys.stdout.flush()
        logging.getLogger(__name__).info(
            "sidecar.listening", extra={"host": settings.host, "port": port}
        )
        await stop.wait()
        _end_at_the_latest()


def log_to_stderr(level: str) -> None:
    """One JSON object a line."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger(AUDIT).setLevel(logging.INFO)  # whatever else is not logged
    logging.getLogger("aiosqlite").setLevel(logging.INFO)  # its debug lines hold what is stored


def _end_at_the_latest() -> None:
    """A thread that waits for a database that hangs cannot be ended, and would keep the process.

    Nothing is lost by it: whatever is under way goes on after the next start.
    """

    def end() -> None:
        logging.getLogger(__name__).error("sidecar.did_not_stop")
        os._exit(1)

    timer = threading.Timer(STOP_SECONDS, end)
    timer.daemon = True
    timer.start()


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(name, stop.set)
        except NotImplementedError:  # Windows
            signal.signal(name, lambda *_: loop.call_soon_threadsafe(stop.set))


def _stop_at_end_of_input(stop: asyncio.Event) -> None:
    """The other end of standard input closes when the parent dies, by whatever signal."""
    loop = asyncio.get_running_loop()

    def wait() -> None:
        # not through sys.stdin: a thread inside its buffer aborts the interpreter when that ends
        while os.read(sys.stdin.fileno(), 4096):
            pass
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait, name="parent-watch", daemon=True).start()

"""The servers beside the sidecar, each run as a process by ``processes.py``.

They print one line of JSON with their port, and end at the end of their input.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from aiohttp import web
from processes import ROOT

sys.path.extend([str(ROOT), str(ROOT / "tests" / "fakes")])  # the clone is not installed

from server import PromptServer  # noqa: TID253 - the fake
from sqlalchemy.ext.asyncio import AsyncConnection

from server_routes import wire
from server_routes.address import SidecarAddress
from sidecar import outside
from sidecar.comfyui.stand_in import StandIn
from sidecar.database.postgres import MEMBER_ROLE, SCHEMA, PostgresDatabase
from sidecar.principal import LOCAL
from sidecar.serving import log_to_stderr
from sidecar.serving import serve as serve_sidecar
from sidecar.settings import read_settings

_SETTINGS = sa.text(
    f"select set_config('search_path', '{SCHEMA}', true),"
    " set_config('statement_timeout', '15000ms', true)"
)


def recording_comfyui(base_dir: Path, loras_dir: Path, *, held: bool) -> web.Application:
    """The stand-in. ``GET /arrivals`` empties its list of ``[nanoseconds, method, path]``.

    The time is ``perf_counter_ns`` when the request's body was there, on the clock that all
    processes of a machine share. ``held``: it takes prompts, and begins none.
    """
    arrivals: list[tuple[int, str, str]] = []

    @web.middleware
    async def record(request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path == "/arrivals":
            seen = list(arrivals)
            arrivals.clear()
            return web.json_response(seen)
        if request.body_exists:
            await request.read()
        arrivals.append((time.perf_counter_ns(), request.method, request.path))
        answer: web.StreamResponse = await handler(request)
        return answer

    stand_in = StandIn(base_dir, loras_dir)
    if held:
        stand_in.hold()
    app = stand_in.app()
    app.middlewares.insert(0, record)
    return app


def comfyui_port(sidecar_url: str) -> web.Application:
    """ComfyUI's port with the pack wired in; ComfyUI itself is a fake. Needs a running loop."""
    host = PromptServer()
    address = SidecarAddress(None, {})
    address.arrived(sidecar_url)
    wire(host, address, None)
    host.add_routes()
    return host.app


def bare_handler(answer: Path) -> web.Application:
    """A handler that answers what is in this JSON file, and does nothing else."""
    value = json.loads(answer.read_text(encoding="utf-8"))

    async def handle(_request: web.Request) -> web.Response:
        return web.json_response(value)

    app = web.Application()
    app.router.add_get("/", handle)
    return app


async def unsecured_sidecar(*, bare: bool) -> None:
    """The sidecar without row-level security, as its own environment says; until its input ends.

    DATABASE_URL is that of the tables' owner, whom no policy binds. A transaction begins with the
    search path and the timeout alone; a ``bare`` one with nothing, and then its login brings them.
    """

    async def accept(_database: PostgresDatabase) -> None:
        pass

    async def become(
        _database: PostgresDatabase, connection: AsyncConnection, *_: Any, **__: Any
    ) -> None:
        if not bare:
            await connection.execute(_SETTINGS)

    outside.require_binding = accept
    PostgresDatabase.become = become  # type: ignore[method-assign]
    settings = read_settings(os.environ)
    log_to_stderr(settings.log_level)
    async with outside.opened_database(settings) as database, database.transaction(LOCAL) as tx:
        if (await tx.execute(sa.text("select current_user"))).scalar_one() == MEMBER_ROLE:
            raise SystemExit("This is secured all the same.")
    await serve_sidecar(settings, child=True)


@asynccontextmanager
async def listening(app: web.Application) -> AsyncIterator[int]:
    """Serve on a free port."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def serve(asked: argparse.Namespace) -> None:
    """Serve until the end of the input."""
    if asked.kind == "unsecured":
        await unsecured_sidecar(bare=asked.bare)
        return
    if asked.kind == "comfyui":
        app = recording_comfyui(asked.base_dir, asked.loras_dir, held=asked.held)
    elif asked.kind == "pack":
        app = comfyui_port(asked.sidecar)
    else:
        app = bare_handler(asked.answer)
    async with listening(app) as port:
        print(json.dumps({"port": port}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


def main() -> None:
    """Read which server it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    comfyui = kinds.add_parser("comfyui")
    comfyui.add_argument("--base-dir", type=Path, required=True)
    comfyui.add_argument("--loras-dir", type=Path, required=True)
    comfyui.add_argument("--held", action="store_true")
    kinds.add_parser("unsecured").add_argument("--bare", action="store_true")
    kinds.add_parser("pack").add_argument("--sidecar", required=True)
    kinds.add_parser("bare").add_argument("--answer", type=Path, required=True)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()

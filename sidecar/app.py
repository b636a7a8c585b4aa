"""The composition root: the one file that chooses concrete classes and wires them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from aiohttp import web
from pydantic import BaseModel

from . import __version__
from .blobs import BlobStore
from .blobs.folder import FolderBlobs
from .clock import Clock, NewId, SystemClock, new_id
from .comfyui import ComfyUI
from .comfyui.client import connected
from .database import Database
from .database.migrations import migrate
from .database.sqlite import SqliteDatabase, async_engine, only_process, sync_engine
from .engine.dbos import DbosEngine
from .errors import AtelierError
from .http.authentication import identify, pack_only, refuse_other_sites
from .http.bodies import reply
from .http.errors import map_errors
from .http.openapi import document, page
from .http.request_log import tag_requests
from .http.routing import BASE, mount
from .loras import routes as lora_routes
from .loras.service import LoraService
from .loras.sync import LoraSync
from .runs import pack_routes
from .runs import routes as run_routes
from .runs.admission import Admission
from .runs.dispatcher import Dispatcher
from .runs.editor import EditorRuns
from .runs.feed import RunFeed
from .runs.journal import RunJournal
from .runs.service import RunService
from .runs.steps import Attempt
from .runs.watch import ComfyWatch
from .settings import Settings
from .workflows import routes as workflow_routes
from .workflows.service import WorkflowService

WORKER_ID = "local"
"""One pair: SQLite allows one process."""

ROUTES = (*workflow_routes.ROUTES, *lora_routes.ROUTES, *run_routes.ROUTES)
"""The public API."""


class Readiness(BaseModel):
    """``GET /ready``. ComfyUI may be away: the sidecar is ready all the same."""

    ready: bool
    version: str
    comfyui: str


@dataclass(frozen=True)
class Outside:
    """The outside world, opened."""

    database: Database
    blobs: BlobStore
    sync: LoraSync
    comfyui: ComfyUI


def make_app(
    settings: Settings, *, clock: Clock | None = None, ids: NewId = new_id
) -> web.Application:
    """The sidecar as an aiohttp application. Nothing is opened before it starts."""
    token = settings.pack_token.get_secret_value() if settings.pack_token else None
    app = web.Application(
        middlewares=[tag_requests, map_errors, refuse_other_sites, pack_only(token), identify]
    )
    app[workflow_routes.MAX_WORKFLOW_BYTES] = settings.max_workflow_bytes
    app[run_routes.MAX_BODY] = settings.max_workflow_bytes
    mount(app, ROUTES)
    mount(app, pack_routes.ROUTES, base="/internal")
    _mount_documents(app)
    _mount_probes(app)
    app.cleanup_ctx.append(_studio(settings, clock or SystemClock(), ids))
    return app


def _studio(
    settings: Settings, clock: Clock, ids: NewId
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Everything between start and stop, closed in reverse: the engine stops before its world."""

    async def running(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            outside, engine_database = await _open_outside(settings, stack)
            wake, feed = asyncio.Event(), RunFeed()
            journal = RunJournal(outside.database, feed, clock, wake.set)
            watch = ComfyWatch(outside.comfyui)
            attempt = Attempt(
                outside.database,
                journal,
                feed,
                outside.comfyui,
                watch,
                outside.sync,
                outside.blobs,
                patience_seconds=settings.comfyui_patience,
                max_attempts=settings.run_attempts,
            )
            engine = DbosEngine(attempt, engine_database, f"sqlite:///{settings.database_file}")
            dispatcher = Dispatcher(
                outside.database,
                engine,
                journal,
                outside.comfyui,
                watch,
                clock,
                worker_id=WORKER_ID,
                at_once=settings.runs_at_once,
                max_attempts=settings.run_attempts,
                wake=wake,
            )
            _wire_rooms(app, settings, outside, journal, feed, dispatcher, wake, clock, ids)
            await stack.enter_async_context(_in_background(watch))
            await stack.enter_async_context(engine.running())
            await stack.enter_async_context(dispatcher.running())
            yield

    return running


async def _open_outside(settings: Settings, stack: AsyncExitStack) -> tuple[Outside, sa.Engine]:
    """Open database, blobs, ComfyUI's folder and its client; also the engine's own connection."""
    file = settings.database_file
    for folder in (settings.data_dir, file.parent, settings.loras_dir):
        folder.mkdir(parents=True, exist_ok=True)
    stack.enter_context(only_process(file))
    engine_database = sync_engine(file)
    stack.callback(engine_database.dispose)
    await asyncio.to_thread(migrate, engine_database)
    rows = async_engine(file)
    stack.push_async_callback(rows.dispose)
    blobs = FolderBlobs(settings.data_dir / "blobs")
    await blobs.clean()
    sync = LoraSync(blobs, settings.loras_dir)
    await sync.clean()
    password, token = settings.comfyui_web_password, settings.pack_token
    comfyui = await stack.enter_async_context(
        connected(
            settings.comfyui_url,
            client_id=_client_id(settings.data_dir),
            user=settings.comfyui_web_user,
            password=password.get_secret_value() if password else None,
            verify_tls=settings.comfyui_verify_tls,
            pack_token=token.get_secret_value() if token else None,
            object_info_seconds=settings.object_info_seconds,
        )
    )
    return Outside(SqliteDatabase(rows), blobs, sync, comfyui), engine_database


def _client_id(data_dir: Path) -> str:
    """Our name on ComfyUI's websocket: the same after a restart, and not to be guessed.

    Whoever connects under it takes our messages; runs under way keep sending to it.
    """
    file = data_dir / "comfyui-client-id"
    if not file.exists():
        part = file.with_suffix(".part")
        part.write_text(f"atelier-{new_id()}", encoding="utf-8")
        part.replace(file)
    return file.read_text(encoding="utf-8").strip()


def _wire_rooms(
    app: web.Application,
    settings: Settings,
    outside: Outside,
    journal: RunJournal,
    feed: RunFeed,
    dispatcher: Dispatcher,
    wake: asyncio.Event,
    clock: Clock,
    ids: NewId,
) -> None:
    """Build each room's service from what it needs, and hand it to its routes."""
    workflows = WorkflowService(outside.database, clock, ids)
    loras = LoraService(
        outside.database,
        outside.blobs,
        outside.sync,
        outside.comfyui,
        clock,
        ids,
        max_bytes=settings.max_lora_bytes,
    )
    admission = Admission(outside.comfyui, loras)
    app[OUTSIDE] = outside
    app[workflow_routes.WORKFLOWS] = workflows
    app[lora_routes.LORAS] = loras
    app[run_routes.BLOBS] = outside.blobs
    app[run_routes.RUNS] = RunService(
        outside.database,
        workflows,
        admission,
        journal,
        feed,
        outside.blobs,
        clock,
        ids,
        max_unfinished=settings.user_runs,
        submitted=wake.set,
    )
    app[pack_routes.EDITOR] = EditorRuns(
        outside.database,
        admission,
        loras,
        outside.sync,
        journal,
        clock,
        ids,
        worker_id=WORKER_ID,
        start=dispatcher.start,
    )


@asynccontextmanager
async def _in_background(watch: ComfyWatch) -> AsyncIterator[None]:
    task = asyncio.create_task(watch.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


OUTSIDE = web.AppKey("outside", Outside)


def _mount_probes(app: web.Application) -> None:
    async def health(_request: web.Request) -> web.Response:
        """The process listens."""
        return web.json_response({"healthy": True})

    async def ready(request: web.Request) -> web.Response:
        """Database and blobs can be used."""
        outside = request.app[OUTSIDE]
        await outside.database.check()
        async with outside.blobs.spool():
            pass
        try:
            comfyui = f"ComfyUI {(await outside.comfyui.system_stats()).comfyui_version}"
        except AtelierError as error:
            comfyui = f"away ({error.code})"
        return reply(Readiness(ready=True, version=__version__, comfyui=comfyui))

    app.router.add_get("/health", health)
    app.router.add_get("/ready", ready)


def _mount_documents(app: web.Application) -> None:
    described = document(ROUTES, __version__)

    async def openapi(_request: web.Request) -> web.Response:
        """The OpenAPI document."""
        return web.json_response(described)

    async def readable(_request: web.Request) -> web.Response:
        """The same for people."""
        return web.Response(text=page(described), content_type="text/html")

    app.router.add_get(f"{BASE}/openapi.json", openapi)
    app.router.add_get(f"{BASE}/docs", readable)

"""The composition root: middlewares, routes, and the rooms wired to each other and the outside."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from aiohttp import web

from .accounts import routes as account_routes
from .accounts.people import People
from .accounts_room import AccountsRoom, opened_accounts
from .blobs import BlobStore
from .clock import Clock, NewId, SystemClock, new_id
from .database import Database
from .engine.dbos import DbosEngine
from .http.authentication import identify, pack_only, refuse_other_sites
from .http.errors import map_errors
from .http.request_log import tag_requests
from .http.routing import mount
from .loras import routes as lora_routes
from .loras.disk import LoraSync
from .loras.disk.tidying import Tidier
from .loras.disk.watching import FolderWatch
from .loras.intake import LoraIntake
from .loras.objects import LoraObjects
from .loras.removal import UnneededFiles
from .loras.resolve import LoraResolver
from .loras.service import LoraService
from .loras.share_routes import SHARING
from .loras.sharing import LoraSharing
from .outside import Outside, open_outside, open_providers, worker_id_of
from .principal import Credentials, Principal
from .probes import OUTSIDE, mount_probes
from .runs import pack_routes
from .runs import routes as run_routes
from .runs.admission import Admission
from .runs.dispatcher import Dispatcher
from .runs.editor import EditorRuns
from .runs.feed import RunFeed
from .runs.journal import RunJournal
from .runs.objects import RunObjects
from .runs.service import RunService
from .runs.steps import Attempt
from .runs.watch import ComfyWatch
from .settings import Settings
from .sweeping.daily import swept_daily
from .sweeping.service import Sweeper
from .uploads import routes as upload_routes
from .uploads.expiry import UploadExpiry
from .uploads.files import UploadFiles
from .uploads.service import UploadService
from .workflows import routes as workflow_routes
from .workflows.service import WorkflowService

ROUTES = (
    *account_routes.ROUTES,
    *workflow_routes.ROUTES,
    *lora_routes.ROUTES,
    *upload_routes.ROUTES,
    *run_routes.ROUTES,
)
"""The public API."""

_ACCOUNTS = web.AppKey("accounts_room", AccountsRoom)
_FEED = web.AppKey("run_feed", RunFeed)


def make_app(
    settings: Settings, *, clock: Clock | None = None, ids: NewId = new_id
) -> web.Application:
    """The sidecar as an aiohttp application. Nothing is opened before it starts."""

    async def authenticate(shown: Credentials) -> Principal:
        return await app[_ACCOUNTS].authentication.authenticate(shown)

    signs_in = settings.auth != ("none",)
    token = settings.pack_token.get_secret_value() if settings.pack_token else None
    app = web.Application(
        middlewares=[
            tag_requests,
            map_errors,
            refuse_other_sites,
            pack_only(token),
            identify(authenticate, signs_in=signs_in),
        ]
    )
    app[workflow_routes.MAX_WORKFLOW_BYTES] = settings.max_workflow_bytes
    app[run_routes.MAX_BODY] = settings.max_workflow_bytes
    app[upload_routes.LARGEST] = settings.max_lora_bytes
    mount(app, ROUTES)
    mount(app, pack_routes.ROUTES, base="/internal")
    app.on_response_prepare.append(pack_routes.tell_accounts(signs_in))
    mount_probes(app, ROUTES, signs_in=signs_in)
    app.on_shutdown.append(_end_streams)
    app.cleanup_ctx.append(_studio(settings, clock or SystemClock(), ids))
    return app


async def _end_streams(app: web.Application) -> None:
    """Before the server waits for requests under way: event streams would not end themselves."""
    app[_FEED].close()


def _studio(
    settings: Settings, clock: Clock, ids: NewId
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Everything between start and stop, closed in reverse: the engine stops before its world."""

    async def running(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            outside = await open_outside(settings, stack)
            wake, feed = asyncio.Event(), RunFeed()
            journal = RunJournal(outside.database, feed, clock, wake.set)
            providers = await open_providers(settings, clock, stack)
            app[_ACCOUNTS] = await stack.enter_async_context(
                opened_accounts(
                    settings, outside.database, providers, clock, ids, [journal.cancel_all]
                )
            )
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
            engine = DbosEngine(
                attempt,
                outside.engine_database,
                executor_id=outside.worker_id,
                schema=outside.engine_schema,
            )
            dispatcher = Dispatcher(
                outside.database,
                engine,
                journal,
                outside.comfyui,
                watch,
                clock,
                worker_id=outside.worker_id,
                at_once=settings.runs_at_once,
                max_attempts=settings.run_attempts,
                wake=wake,
            )
            app[_FEED] = feed
            _wire_rooms(app, settings, outside, journal, feed, dispatcher, wake, clock, ids)
            await stack.enter_async_context(_in_background(watch))
            await stack.enter_async_context(engine.running())
            # only now: DBOS's migration waits for every open transaction to end, and meanwhile
            # blocks the loop on which ours would
            watching = FolderWatch(Tidier(outside.sync), outside.sync.folder)
            await stack.enter_async_context(watching.running())
            await stack.enter_async_context(app[upload_routes.UPLOADS].running())
            sweeper = sweeper_for(settings, outside.database, outside.blobs, clock)
            await stack.enter_async_context(swept_daily(sweeper, outside.database))
            await stack.enter_async_context(dispatcher.running())
            yield

    return running


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
    room = app[_ACCOUNTS]
    app[account_routes.SIGN_IN] = room.sign_in
    app[account_routes.ACCOUNTS] = room.accounts
    app[account_routes.USERS] = room.users
    workflows = WorkflowService(outside.database, clock, ids)
    people = People(outside.database)
    unneeded = UnneededFiles(outside.database, outside.sync)
    loras = LoraResolver(outside.database, outside.comfyui, people)
    admission = Admission(outside.comfyui, loras)
    app[OUTSIDE] = outside
    app[workflow_routes.WORKFLOWS] = workflows
    app[lora_routes.LORAS] = LoraService(
        outside.database, outside.blobs, outside.sync, outside.comfyui, unneeded, people, clock
    )
    app[SHARING] = LoraSharing(outside.database, unneeded, people, clock, ids)
    intake = LoraIntake(
        outside.database,
        outside.blobs,
        clock,
        ids,
        max_bytes=settings.max_lora_bytes,
        quotas=room.accounts.quotas_of,
        is_welcome=room.authentication.is_welcome,
    )
    app[lora_routes.INTAKE] = intake
    app[upload_routes.UPLOADS] = UploadService(
        outside.database,
        intake,
        UploadFiles(settings.data_dir / "uploads"),
        clock,
        ids,
        worker_id=outside.worker_id,
        seconds=settings.upload_seconds,
    )
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
        quotas=room.accounts.quotas_of,
        is_welcome=room.authentication.is_welcome,
        submitted=wake.set,
    )
    app[pack_routes.EDITOR] = EditorRuns(
        outside.database,
        outside.comfyui,
        admission,
        loras,
        outside.sync,
        journal,
        clock,
        ids,
        worker_id=outside.worker_id,
        quotas=room.accounts.quotas_of,
        start=dispatcher.start_soon,
    )


def sweeper_for(settings: Settings, database: Database, blobs: BlobStore, clock: Clock) -> Sweeper:
    """Who removes garbage, for the sidecar and for the command beside it."""
    return Sweeper(
        blobs,
        LoraSync(blobs, settings.loras_dir),
        LoraObjects(database),
        RunObjects(database),
        UploadExpiry(
            database,
            UploadFiles(settings.data_dir / "uploads"),
            worker_id=worker_id_of(settings),
            seconds=settings.upload_seconds,
        ),
        clock,
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

"""The outside world, opened as settings say: the one file that chooses concrete classes of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
import sqlalchemy as sa

from .blobs import BlobStore
from .blobs.folder import FolderBlobs
from .blobs.s3 import S3Blobs
from .blobs.s3_client import S3Address
from .clock import Clock, new_id
from .comfyui import ComfyUI
from .comfyui.client import connected
from .database import Database, postgres, sqlite
from .database.migrations import migrate, migrate_postgres, require_migrated
from .database.row_security import require_binding
from .identity import PasswordSignIn, TokenCheck, supabase
from .identity.cloudflare import CloudflareTokens
from .identity.supabase_tokens import SupabaseTokens
from .loras.disk import LoraSync
from .loras.disk.records import LibraryRecords
from .settings import Settings

ONLY_PAIR = "local"
"""The worker of a SQLite file, which one process holds."""


@dataclass(frozen=True)
class Outside:
    """What a sidecar works with."""

    database: Database
    engine_database: sa.Engine
    """The same database, for the engine, which blocks."""
    engine_schema: str | None
    worker_id: str
    """This pair, under one name for ever."""
    blobs: BlobStore
    sync: LoraSync
    comfyui: ComfyUI


@dataclass(frozen=True)
class Providers:
    """Who else says who somebody is; None where ATELIER_AUTH does not name it."""

    supabase: PasswordSignIn | None = None
    supabase_tokens: TokenCheck | None = None
    cloudflare: TokenCheck | None = None


async def open_providers(settings: Settings, clock: Clock, stack: AsyncExitStack) -> Providers:
    """Those that ATELIER_AUTH names, until the stack closes; their keys are kept fresh."""
    if not {"supabase", "cloudflare"} & set(settings.auth):
        return Providers()
    http = await stack.enter_async_context(
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=True)
    )
    sign_in = tokens = cloudflare = None
    if "supabase" in settings.auth and settings.supabase_url and settings.supabase_anon_key:
        secret = settings.supabase_jwt_secret
        tokens = SupabaseTokens(
            http,
            settings.supabase_url,
            clock,
            secret=secret.get_secret_value() if secret else None,
        )
        await stack.enter_async_context(tokens.running())
        key = settings.supabase_anon_key.get_secret_value()
        sign_in = await stack.enter_async_context(
            supabase.connected(settings.supabase_url, key, tokens)
        )
    if "cloudflare" in settings.auth and settings.cf_access_team and settings.cf_access_aud:
        cloudflare = CloudflareTokens(
            http,
            settings.cf_access_team,
            settings.cf_access_aud,
            clock,
            service_tokens=settings.cf_access_service_tokens,
        )
        await stack.enter_async_context(cloudflare.running())
    return Providers(sign_in, tokens, cloudflare)


async def open_outside(settings: Settings, stack: AsyncExitStack) -> Outside:
    """Open all of it, until the stack closes. One sidecar per data folder at a time."""
    for folder in (settings.data_dir, settings.loras_dir):
        folder.mkdir(parents=True, exist_ok=True)
    on_postgres = settings.postgres_url is not None
    held = settings.data_dir / "sidecar" if on_postgres else settings.database_file
    held.parent.mkdir(parents=True, exist_ok=True)
    stack.enter_context(sqlite.only_process(held))
    await migrate_as_configured(settings)
    database = await stack.enter_async_context(opened_database(settings))
    engine_database = _engine_database(settings)
    stack.callback(engine_database.dispose)
    blobs = await stack.enter_async_context(opened_blobs(settings))
    await blobs.clean()
    worker_id = worker_id_of(settings)
    sync = LoraSync(
        blobs,
        settings.loras_dir,
        LibraryRecords(database),
        worker_id=worker_id,
        cache_bytes=settings.lora_cache_bytes,
        min_free_bytes=settings.loras_min_free_bytes,
    )
    await sync.clean()
    password, token = settings.comfyui_web_password, settings.pack_token
    comfyui = await stack.enter_async_context(
        connected(
            settings.comfyui_url,
            client_id=_kept_name(settings, "comfyui-client-id", "atelier"),
            user=settings.comfyui_web_user,
            password=password.get_secret_value() if password else None,
            verify_tls=settings.comfyui_verify_tls,
            pack_token=token.get_secret_value() if token else None,
            object_info_seconds=settings.object_info_seconds,
        )
    )
    return Outside(
        database,
        engine_database,
        postgres.ENGINE_SCHEMA if on_postgres else None,
        worker_id,
        blobs,
        sync,
        comfyui,
    )


@asynccontextmanager
async def opened_database(settings: Settings) -> AsyncIterator[Database]:
    """The database alone. InvalidError when it is not migrated or its rows are not secured."""
    if settings.postgres_url is not None:
        async with postgres.opened(settings.postgres_url) as database:
            await require_migrated(database)
            await require_binding(database)
            yield database
        return
    engine = sqlite.async_engine(settings.database_file)
    try:
        yield sqlite.SqliteDatabase(engine)
    finally:
        await engine.dispose()


@asynccontextmanager
async def opened_blobs(settings: Settings) -> AsyncIterator[BlobStore]:
    """Where files are kept. An S3 store may be away: that shows when it is asked for something."""
    folder = settings.data_dir / "blobs"
    address = s3_address(settings)
    if address is None:
        yield FolderBlobs(folder)
        return
    store = S3Blobs(address, max_bytes=settings.max_lora_bytes)
    try:
        yield store
    finally:
        await store.close()


def s3_address(settings: Settings) -> S3Address | None:
    """The bucket that MINIO_... names; None: files are kept in the data folder."""
    endpoint, access = settings.minio_endpoint, settings.minio_access_key
    secret = settings.minio_secret_key
    if endpoint is None or access is None or secret is None:
        return None
    return S3Address(
        endpoint,
        access.get_secret_value(),
        secret.get_secret_value(),
        settings.minio_bucket,
        region=settings.minio_region,
        secure=settings.minio_secure,
        path_style=settings.minio_path_style,
        public_endpoint=settings.minio_public_endpoint,
    )


async def migrate_as_configured(settings: Settings) -> bool:
    """Bring the database to today's schema; False when that is somebody else's to do.

    On Postgres the sidecar's own role may not: without DATABASE_ADMIN_URL nothing is done.
    """
    if settings.postgres_url is None:
        engine = sqlite.sync_engine(settings.database_file)
        try:
            await asyncio.to_thread(migrate, engine)
        finally:
            engine.dispose()
        return True
    if settings.database_admin_url is None:
        return False
    admin_url = settings.database_admin_url.get_secret_value()
    await asyncio.to_thread(migrate_postgres, admin_url, settings.postgres_url)
    return True


def _engine_database(settings: Settings) -> sa.Engine:
    if settings.postgres_url is not None:
        return postgres.sync_engine(settings.postgres_url)
    return sqlite.sync_engine(settings.database_file)


def worker_id_of(settings: Settings) -> str:
    """This pair, under one name for ever."""
    if settings.postgres_url is None:
        return ONLY_PAIR
    return _kept_name(settings, "worker-id", "pair")


def _kept_name(settings: Settings, filename: str, prefix: str) -> str:
    """A name made once: the same after a restart, and not to be guessed.

    Whoever connects to ComfyUI under ours takes our messages; runs under way belong to the pair.
    """
    file = settings.data_dir / filename
    if not file.exists():
        part = file.with_suffix(".part")
        part.write_text(f"{prefix}-{new_id()}", encoding="utf-8")
        part.replace(file)
    return file.read_text(encoding="utf-8").strip()

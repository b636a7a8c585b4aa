"""A Supabase project and a Cloudflare Access team, with keys of their own, and what checks them."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from clock import FakeClock
from cloudflare_access import AUDIENCE, CloudflareAccess
from signing_keys import HmacSecret
from stopwatch import Stopwatch
from supabase_emulator import SupabaseEmulator, User

from sidecar.identity.cloudflare import CloudflareTokens
from sidecar.identity.supabase_tokens import SupabaseTokens

SERVICES = "cicd.access=Robot@Example.com, other.access=other@example.com"


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """One session for everything."""
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def stopwatch() -> Stopwatch:
    """What the key caches go by."""
    return Stopwatch()


@pytest.fixture
def legacy() -> HmacSecret:
    """The secret of a project that still signs with HS256."""
    return HmacSecret(b"a legacy secret of more than 32 bytes")


@pytest.fixture
async def supabase(clock: FakeClock) -> AsyncIterator[SupabaseEmulator]:
    """A project that signs with ES256."""
    emulator = SupabaseEmulator(now=lambda: clock.now().timestamp())
    async with emulator.serving():
        yield emulator


@pytest.fixture
def ada(supabase: SupabaseEmulator) -> User:
    """Somebody who has signed up there."""
    return supabase.add_user("Ada@Example.com", "correct horse")


@pytest.fixture
async def tokens(
    http: aiohttp.ClientSession, supabase: SupabaseEmulator, clock: FakeClock, stopwatch: Stopwatch
) -> AsyncIterator[SupabaseTokens]:
    """What checks its tokens, without a legacy secret."""
    checked = SupabaseTokens(http, supabase.url, clock, monotonic=stopwatch)
    async with checked.running():
        yield checked


@pytest.fixture
async def legacy_tokens(
    http: aiohttp.ClientSession,
    supabase: SupabaseEmulator,
    clock: FakeClock,
    stopwatch: Stopwatch,
    legacy: HmacSecret,
) -> AsyncIterator[SupabaseTokens]:
    """The same with the legacy secret."""
    secret = legacy.secret.decode()
    checked = SupabaseTokens(http, supabase.url, clock, secret=secret, monotonic=stopwatch)
    async with checked.running():
        yield checked


@pytest.fixture
async def access(clock: FakeClock) -> AsyncIterator[CloudflareAccess]:
    """A team."""
    team = CloudflareAccess(now=lambda: clock.now().timestamp())
    async with team.serving():
        yield team


@pytest.fixture
async def access_tokens(
    http: aiohttp.ClientSession, access: CloudflareAccess, clock: FakeClock, stopwatch: Stopwatch
) -> AsyncIterator[CloudflareTokens]:
    """What checks its tokens."""
    checked = CloudflareTokens(
        http,
        access.url,
        f"{AUDIENCE}, second-tag",
        clock,
        service_tokens=SERVICES,
        monotonic=stopwatch,
    )
    async with checked.running():
        yield checked

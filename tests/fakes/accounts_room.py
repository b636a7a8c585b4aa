"""The accounts room as the sidecar wires it, with hashing that costs nothing."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

from aiohttp import web
from argon2 import PasswordHasher
from clock import FakeClock
from vouchers import FakePasswords, FakeTokens

from sidecar.accounts import routes
from sidecar.accounts.authentication import Authentication
from sidecar.accounts.models import Account, Quotas, SignedIn
from sidecar.accounts.passwords import Passwords
from sidecar.accounts.service import AccountService
from sidecar.accounts.sign_in import SignIn
from sidecar.accounts.throttle import LoginThrottle
from sidecar.accounts.users import UserService
from sidecar.accounts.vouched import VouchedAccounts
from sidecar.database import Database
from sidecar.http.authentication import identify, pack_only, refuse_other_sites
from sidecar.http.errors import map_errors
from sidecar.http.request_log import tag_requests
from sidecar.principal import Credentials, Principal, Role

ANN, BEN = "ann@example.org", "ben@example.org"
PASSWORD = "correct horse battery"
SESSION_SECONDS = 3600
QUOTAS = Quotas(max_runs=10, max_bytes=1000)
PACK_TOKEN = "only the pack knows this"


class CountingHasher(PasswordHasher):
    """Argon2 with parameters that cost nothing; counts what it is asked to verify."""

    def __init__(self, time_cost: int = 1) -> None:
        super().__init__(time_cost=time_cost, memory_cost=8, parallelism=1)
        self.verified: list[str | bytes] = []

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:
        """As PasswordHasher does."""
        self.verified.append(hash)
        return super().verify(hash, password)


@dataclass
class Room:
    """Its services, and what stands for the outside world."""

    database: Database
    clock: FakeClock
    hasher: CountingHasher
    passwords: Passwords
    vouched: VouchedAccounts
    supabase: FakePasswords
    supabase_tokens: FakeTokens
    cloudflare: FakeTokens
    authentication: Authentication
    signing_in: SignIn
    accounts: AccountService
    users: UserService
    disabled: list[UUID]

    async def add(self, email: str, *, role: Role | None = None) -> Account:
        """An account with the usual password."""
        self.clock.tick()
        return await self.users.add(email, role=role, password=PASSWORD)

    async def sign_in(
        self, email: str = ANN, password: str = PASSWORD, address: str = "192.0.2.1"
    ) -> SignedIn:
        """Sign in."""
        return await self.signing_in.sign_in(email, password, address, "tests/1.0")

    async def token(self, email: str = ANN) -> str:
        """A new session's token."""
        return str((await self.sign_in(email)).session_token)

    async def principal(self, email: str = ANN) -> Principal:
        """Somebody, signed in anew."""
        return await self.bearer(await self.token(email))

    async def bearer(self, token: str, acting_for: str | None = None) -> Principal:
        """Who asks with this bearer."""
        shown = Credentials(bearer=token, acting_for=acting_for)
        return await self.authentication.authenticate(shown)

    def app(self) -> web.Application:
        """Its routes behind the real middlewares."""
        app = web.Application(
            middlewares=[
                tag_requests,
                map_errors,
                refuse_other_sites,
                pack_only(PACK_TOKEN),
                identify(self.authentication.authenticate),
            ]
        )
        app[routes.SIGN_IN] = self.signing_in
        app[routes.ACCOUNTS] = self.accounts
        app[routes.USERS] = self.users
        return app


OpenRoom = Callable[..., Awaitable[Room]]


@asynccontextmanager
async def opened_room(
    database: Database,
    clock: FakeClock,
    ways: Sequence[str] = ("local",),
    hasher: CountingHasher | None = None,
) -> AsyncIterator[Room]:
    """The room on this database, with these ways to sign in."""
    hasher = hasher or CountingHasher()
    passwords = Passwords(hasher)
    supabase_tokens, cloudflare = FakeTokens(), FakeTokens()
    supabase = FakePasswords(clock, supabase_tokens)
    with_supabase, with_cloudflare = "supabase" in ways, "cloudflare" in ways
    vouched = VouchedAccounts(database, clock, uuid4)
    disabled: list[UUID] = []

    async def note(account_id: UUID) -> None:
        disabled.append(account_id)

    room = Room(
        database,
        clock,
        hasher,
        passwords,
        vouched,
        supabase,
        supabase_tokens,
        cloudflare,
        Authentication(
            database,
            clock,
            vouched,
            ways=ways,
            session_seconds=SESSION_SECONDS,
            supabase=supabase_tokens if with_supabase else None,
            cloudflare=cloudflare if with_cloudflare else None,
        ),
        SignIn(
            database,
            clock,
            uuid4,
            lambda: secrets.token_urlsafe(32),
            passwords,
            LoginThrottle(clock),
            vouched,
            ways=ways,
            session_seconds=SESSION_SECONDS,
            supabase=supabase if with_supabase else None,
            supabase_tokens=supabase_tokens if with_supabase else None,
        ),
        AccountService(
            database, clock, uuid4, lambda: secrets.token_urlsafe(32), ways=ways, quotas=QUOTAS
        ),
        UserService(
            database, clock, uuid4, passwords, ways=ways, quotas=QUOTAS, on_disabled=[note]
        ),
        disabled,
    )
    try:
        yield room
    finally:
        passwords.close()

"""The accounts room, wired: part of the composition root, for the sidecar and the command line."""

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from .accounts.authentication import Authentication
from .accounts.models import Quotas
from .accounts.passwords import Passwords
from .accounts.service import AccountService
from .accounts.sign_in import SignIn
from .accounts.throttle import LoginThrottle
from .accounts.users import OnDisabled, UserService
from .accounts.vouched import VouchedAccounts
from .clock import Clock, NewId
from .database import Database
from .outside import Providers
from .settings import Settings

_TOKEN_BYTES = 32


@dataclass(frozen=True)
class AccountsRoom:
    """Its services."""

    authentication: Authentication
    sign_in: SignIn
    accounts: AccountService
    users: UserService


@asynccontextmanager
async def opened_accounts(
    settings: Settings,
    database: Database,
    providers: Providers,
    clock: Clock,
    ids: NewId,
    on_disabled: Sequence[OnDisabled],
) -> AsyncIterator[AccountsRoom]:
    """The room on this database; the threads that hash passwords end with the block."""
    ways, seconds = settings.auth, settings.session_seconds
    quotas = Quotas(
        settings.user_runs, settings.user_bytes, settings.user_loras, settings.max_lora_bytes
    )
    vouched = VouchedAccounts(database, clock, ids)
    passwords = Passwords()
    try:
        yield AccountsRoom(
            Authentication(
                database,
                clock,
                vouched,
                ways=ways,
                session_seconds=seconds,
                supabase=providers.supabase_tokens,
                cloudflare=providers.cloudflare,
            ),
            SignIn(
                database,
                clock,
                ids,
                _secret,
                passwords,
                LoginThrottle(clock),
                vouched,
                ways=ways,
                session_seconds=seconds,
                supabase=providers.supabase,
                supabase_tokens=providers.supabase_tokens,
            ),
            AccountService(database, clock, ids, _secret, ways=ways, quotas=quotas),
            UserService(
                database,
                clock,
                ids,
                passwords,
                ways=ways,
                quotas=quotas,
                on_disabled=on_disabled,
            ),
        )
    finally:
        passwords.close()


def _secret() -> str:
    return secrets.token_urlsafe(_TOKEN_BYTES)

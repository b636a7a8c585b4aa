"""Who is asking: from what a request shows to the ``Principal``."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from ..clock import Clock
from ..database import Database
from ..errors import (
    ForbiddenError,
    NotFoundError,
    StorageFullError,
    TimedOutError,
    UnauthenticatedError,
    UnavailableError,
)
from ..identity import Identity, TokenCheck
from ..principal import LOCAL, SYSTEM, Credentials, Principal, Role
from .models import NO_SIGN_IN, Account, Holder
from .opaque_tokens import API, SESSION, cookie_token_of, sha256_of
from .store import AccountDirectory, CredentialDirectory
from .vouched import VouchedAccounts

NOTED_EVERY = timedelta(seconds=60)
"""Use is written down no more often: most requests write nothing."""
ACTS_FOR = "users:write"

log = logging.getLogger(__name__)


class Authentication:
    """Looks up sessions and API tokens, and has Supabase's and Cloudflare's tokens checked.

    ``ways`` is the list of ``ATELIER_AUTH``. With ``none`` everyone is LOCAL, and nothing is looked
    up.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        vouched: VouchedAccounts,
        *,
        ways: Sequence[str],
        session_seconds: int,
        supabase: TokenCheck | None = None,
        cloudflare: TokenCheck | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._vouched = vouched
        self._ways = tuple(ways)
        self._session_length = timedelta(seconds=session_seconds)
        self._supabase = supabase
        self._cloudflare = cloudflare

    async def authenticate(self, shown: Credentials) -> Principal:
        """Who is asking: the bearer counts before the cookie, the cookie before Cloudflare's word.

        UnauthenticatedError("sign_in_required", "session_ended", "bad_token", "token_expired",
        "account_disabled" or what the providers say), ForbiddenError("admins_only" or
        "scope_missing"), NotFoundError("account") for whom an admin asks; UnavailableError.
        """
        if self._ways == NO_SIGN_IN:
            if shown.acting_for not in (None, str(LOCAL.id)):
                raise NotFoundError("account")
            return LOCAL
        principal = await self._identified(shown)
        if shown.acting_for is None:
            return principal
        return await self._acting(principal, shown.acting_for)

    async def is_welcome(self, principal: Principal) -> bool:
        """Whether who was let in a while ago still would be: a stream asks again and again."""
        if self._ways == NO_SIGN_IN:
            return True
        now = self._clock.now()
        if principal.good_until is not None and principal.good_until <= now:
            return False
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            directory = AccountDirectory(tx)
            asker = await directory.get(principal.acting or principal.id)
            if asker is None or not asker.is_enabled:
                return False
            if principal.acting is not None and (
                asker.role is not Role.ADMIN or await directory.get(principal.id) is None
            ):
                return False
            return principal.credential is None or await CredentialDirectory(tx).is_live(
                principal.credential, asker.id, now
            )

    async def _identified(self, shown: Credentials) -> Principal:
        if shown.bearer is not None:
            return await self._by_bearer(shown.bearer)
        token = cookie_token_of(shown)
        if token is not None and (holder := await self._session(token)) is not None:
            return await self._let_in(holder)
        if shown.assertion is not None and self._cloudflare is not None:
            return await self._let_in_by(await self._cloudflare.identify(shown.assertion))
        if shown.cookie is not None:
            raise session_ended()
        raise sign_in_required(self._ways)

    async def _by_bearer(self, bearer: str) -> Principal:
        if bearer.startswith(SESSION):
            holder = await self._session(bearer)
            if holder is None:
                raise session_ended()
            return await self._let_in(holder)
        if bearer.startswith(API):
            return await self._let_in(await self._token(bearer))
        if self._supabase is None:
            raise _bad_token()
        return await self._let_in_by(await self._supabase.identify(bearer))

    async def _session(self, token: str) -> Holder | None:
        """The holder of a session that has not ended."""
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            holder = await CredentialDirectory(tx).session(sha256_of(token))
        return None if holder is None or holder.is_over(self._clock.now()) else holder

    async def _token(self, token: str) -> Holder:
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            holder = await CredentialDirectory(tx).token(sha256_of(token))
        if holder is None:
            raise _bad_token()
        if holder.is_over(self._clock.now()):
            raise UnauthenticatedError("token_expired", "This token has expired.")
        return holder

    async def _let_in(self, holder: Holder) -> Principal:
        account = enabled(holder.account)
        await self._note_use(account, holder)
        return Principal(
            account.id, account.role, scopes=holder.scopes, credential=holder.credential
        )

    async def _let_in_by(self, identity: Identity) -> Principal:
        account = enabled(await self._vouched.account_of(identity))
        await self._note_use(account, None)
        return Principal(account.id, account.role, good_until=identity.expires_at)

    async def _note_use(self, account: Account, holder: Holder | None) -> None:
        now = self._clock.now()
        seen = _is_old(account.seen_at, now)
        used = holder is not None and _is_old(holder.used_at, now)
        if not (seen or used):
            return
        try:
            async with self._database.transaction(SYSTEM) as tx:
                if seen:
                    await AccountDirectory(tx).seen(account.id, now)
                if holder is not None and used:
                    await self._write_use(CredentialDirectory(tx), holder, now)
        except (UnavailableError, TimedOutError, StorageFullError) as error:
            # whoever may read shall be able to, on a full disk too
            log.warning("account.use_not_noted", extra={"code": error.code})

    async def _write_use(
        self, credentials: CredentialDirectory, holder: Holder, now: datetime
    ) -> None:
        if holder.scopes is not None:
            await credentials.token_used(holder.credential, now)
        else:
            later = now + self._session_length if lasts_by_use(holder, self._ways) else None
            await credentials.session_used(holder.credential, now, later)

    async def _acting(self, admin: Principal, wanted: str) -> Principal:
        """An admin as somebody else, with that one's rights; ``identify`` notes the request."""
        if admin.role is not Role.ADMIN:
            raise ForbiddenError("admins_only", "Only an admin may act for others.")
        if not admin.may(ACTS_FOR):
            raise ForbiddenError(
                "scope_missing", f"This token lacks the scope {ACTS_FOR}.", {"scope": ACTS_FOR}
            )
        account_id = await self._existing(wanted)
        if account_id == admin.id:
            return admin
        return replace(admin, id=account_id, role=Role.MEMBER, acting=admin.id)

    async def _existing(self, wanted: str) -> UUID:
        try:
            account_id = UUID(wanted)
        except ValueError:
            raise NotFoundError("account") from None
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            if await AccountDirectory(tx).get(account_id) is None:
                raise NotFoundError("account")
        return account_id


def enabled(account: Account) -> Account:
    """The account. UnauthenticatedError("account_disabled")."""
    if not account.is_enabled:
        raise UnauthenticatedError("account_disabled", "This account is disabled.")
    return account


def lasts_by_use(holder: Holder, ways: Sequence[str]) -> bool:
    """Whether using a session makes it last longer.

    That of an account without a password here was opened on Supabase Auth's word, and lasts until
    that says so again: whoever was removed there is out here some day.
    """
    return holder.has_password and "local" in ways


def session_ended() -> UnauthenticatedError:
    """For a session that is not, or not any more."""
    return UnauthenticatedError("session_ended", "This session has ended; sign in again.")


def sign_in_required(ways: Sequence[str]) -> UnauthenticatedError:
    """For who showed nothing; ``details.ways`` is how one signs in here."""
    return UnauthenticatedError("sign_in_required", "Sign in first.", {"ways": list(ways)})


def _bad_token() -> UnauthenticatedError:
    return UnauthenticatedError("bad_token", "This token is not good here.")


def _is_old(moment: datetime | None, now: datetime) -> bool:
    return moment is None or moment <= now - NOTED_EVERY

"""Which account somebody is whom Supabase Auth or Cloudflare Access vouches for."""

import logging
from dataclasses import replace
from uuid import UUID

from ..clock import Clock, NewId
from ..database import Database
from ..errors import (
    ConflictError,
    StorageFullError,
    TimedOutError,
    UnauthenticatedError,
    UnavailableError,
)
from ..identity import Identity, Provider
from ..principal import SYSTEM, Role, normal_email
from .models import Account
from .store import AccountDirectory

log = logging.getLogger(__name__)


class VouchedAccounts:
    """Finds the account of an identity, and makes it at first sight.

    Supabase's users are found by its id alone: a project may hold e-mails that nobody proved, so
    what it says is kept apart, shown, and never looked for: whoever typed an e-mail there would
    wait here for its owner. Cloudflare's are found by the e-mail that Access has checked.
    """

    def __init__(self, database: Database, clock: Clock, new_id: NewId) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id

    async def account_of(self, identity: Identity) -> Account:
        """The account, disabled or not, with the e-mail that Supabase says now.

        UnauthenticatedError("bad_token") for an identity that names nobody.
        """
        named = _Named.of(identity)
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            found = await named.find(AccountDirectory(tx))
        if found is None:
            return await self._add(named)
        if named.supabase_id is None or found.supabase_email == named.email:
            return found
        return await self._renamed(found, named.email)

    async def _renamed(self, account: Account, email: str | None) -> Account:
        try:
            async with self._database.transaction(SYSTEM) as tx:
                await AccountDirectory(tx).set_supabase_email(account.id, email)
        except (UnavailableError, TimedOutError, StorageFullError) as error:
            # whoever may read shall be able to, on a full disk too
            log.warning("account.email_not_noted", extra={"code": error.code})
        return replace(account, supabase_email=email)

    async def _add(self, named: "_Named") -> Account:
        try:
            async with self._database.transaction(SYSTEM) as tx:
                directory = AccountDirectory(tx)
                if (found := await named.find(directory)) is not None:
                    return found
                account = self._new(named)
                await directory.add(account, None)
        except ConflictError:  # another request made it at this very moment
            async with self._database.transaction(SYSTEM, read_only=True) as tx:
                found = await named.find(AccountDirectory(tx))
            if found is None:
                raise
            return found
        log.info(
            "account.added", extra={"account": str(account.id), "provider": named.provider.value}
        )
        return account

    def _new(self, named: "_Named") -> Account:
        by_supabase = named.supabase_id is not None
        return Account(
            id=self._new_id(),
            email=None if by_supabase else named.email,
            role=Role.MEMBER,
            created_at=self._clock.now(),
            supabase_id=named.supabase_id,
            supabase_email=named.email if by_supabase else None,
        )


class _Named:
    """An identity, as accounts are found by it."""

    def __init__(self, provider: Provider, supabase_id: UUID | None, email: str | None) -> None:
        self.provider = provider
        self.supabase_id = supabase_id
        self.email = email

    @classmethod
    def of(cls, identity: Identity) -> "_Named":
        email = None if identity.email is None else normal_email(identity.email)
        if identity.provider is Provider.SUPABASE:
            try:
                return cls(identity.provider, UUID(identity.subject), email)
            except ValueError:
                raise _names_nobody() from None
        if email is None:
            raise _names_nobody()
        return cls(identity.provider, None, email)

    async def find(self, directory: AccountDirectory) -> Account | None:
        if self.supabase_id is not None:
            return await directory.with_supabase_id(self.supabase_id)
        return await directory.with_email(self.email or "")


def _names_nobody() -> UnauthenticatedError:
    return UnauthenticatedError("bad_token", "This token names nobody.")

"""Which account somebody is whom Supabase Auth or Cloudflare Access vouches for."""

import logging
from dataclasses import replace
from uuid import UUID

from ..clock import Clock, NewId
from ..database import Database
from ..errors import ConflictError, ForbiddenError, UnauthenticatedError
from ..identity import Identity, Provider
from ..principal import SYSTEM, Role, normal_email
from .models import Account
from .store import AccountDirectory

log = logging.getLogger(__name__)


class VouchedAccounts:
    """Finds the account of an identity, and makes it at first sight.

    Supabase's users are found by its id alone: a project may hold e-mails that nobody proved.
    Cloudflare's are found by e-mail, which is why, where both are on (``emails_are_proof``), none
    of Supabase's becomes an account's: whoever typed it there would wait for its owner here.
    """

    def __init__(
        self, database: Database, clock: Clock, new_id: NewId, *, emails_are_proof: bool
    ) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id
        self._emails_are_proof = emails_are_proof

    async def account_of(self, identity: Identity) -> Account:
        """The account, disabled or not.

        ForbiddenError("email_taken") when somebody is seen for the first time whose e-mail is
        another account's; UnauthenticatedError("bad_token") for an identity that names nobody.
        """
        named = _Named.of(identity)
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            found = await named.find(AccountDirectory(tx))
        return found or await self._add(named)

    async def _add(self, named: "_Named") -> Account:
        try:
            async with self._database.transaction(SYSTEM) as tx:
                directory = AccountDirectory(tx)
                if (found := await named.find(directory)) is not None:
                    return found
                if named.email is not None:
                    holder = await directory.with_email(named.email)
                    # somebody else's, or its own, made since the line above looked
                    if holder is not None and not named.is_of(holder):
                        raise _email_taken(named.email)
                    if holder is not None:
                        return holder
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
        account = Account(
            id=self._new_id(),
            email=named.email,
            role=Role.MEMBER,
            created_at=self._clock.now(),
            supabase_id=named.supabase_id,
        )
        proved = named.provider is Provider.CLOUDFLARE
        return account if proved or not self._emails_are_proof else replace(account, email=None)


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

    def is_of(self, account: Account) -> bool:
        """Whether an account that has this e-mail is this one's."""
        return self.supabase_id is None or account.supabase_id == self.supabase_id

    async def find(self, directory: AccountDirectory) -> Account | None:
        if self.supabase_id is not None:
            return await directory.with_supabase_id(self.supabase_id)
        return await directory.with_email(self.email or "")


def _names_nobody() -> UnauthenticatedError:
    return UnauthenticatedError("bad_token", "This token names nobody.")


def _email_taken(email: str) -> ForbiddenError:
    return ForbiddenError(
        "email_taken",
        f"Another account has the e-mail {email}. An admin can link the two: "
        f"users link {email} --supabase-id <your id in Supabase>.",
        {"email": email},
    )

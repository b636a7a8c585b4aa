"""Everybody's accounts: for admins, and for the command line."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from ..clock import Clock, NewId
from ..database import Database
from ..database.pages import Page
from ..errors import ConflictError, NotFoundError
from ..principal import LOCAL_ACCOUNT_ID, SYSTEM, Principal, Role, normal_email
from .models import Account, Quotas, Usage, User, new_email
from .passwords import Passwords
from .store import AccountDirectory
from .user_views import UserChange, UserQuery

OnDisabled = Callable[[UUID], Awaitable[None]]
T = TypeVar("T")

log = logging.getLogger(__name__)


class UserService:
    """Nothing here asks who may: the route has, and whoever has the command line may.

    ``ways`` is the list of ``ATELIER_AUTH``; ``quotas`` hold for accounts that have none of their
    own. ``on_disabled`` is called with each account that was disabled, once that is committed, and
    once more before it is enabled again; it may be added to later.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        new_id: NewId,
        passwords: Passwords,
        *,
        ways: Sequence[str],
        quotas: Quotas,
        on_disabled: Sequence[OnDisabled] = (),
    ) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id
        self._passwords = passwords
        self._quotas = quotas
        self._on_disabled = on_disabled
        self.ways = tuple(ways)

    async def page(self, asked: UserQuery) -> Page[User]:
        """Accounts with what each uses, newest first."""
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            directory = AccountDirectory(tx)
            page = await directory.page(asked)
            usage = await directory.usage([account.id for account in page.items])
        return page.map(lambda each: User(each, usage[each.id], self._quotas.of(each)))

    async def get(self, account_id: UUID) -> User:
        """One with what it uses. NotFoundError."""
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            directory = AccountDirectory(tx)
            account = _found(await directory.get(account_id))
            usage = await directory.usage([account_id])
        return User(account, usage[account_id], self._quotas.of(account))

    async def named(self, name: str) -> Account:
        """The account with this e-mail or id. NotFoundError."""
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            directory = AccountDirectory(tx)
            found = await directory.with_email(normal_email(name))
            if found is None and (account_id := _uuid(name)) is not None:
                found = await directory.get(account_id)
        return _found(found)

    async def add(
        self,
        email: str,
        *,
        role: Role | None = None,
        password: str | None = None,
        supabase_id: UUID | None = None,
    ) -> Account:
        """A new account.

        The first takes the id under which everything was made while nobody signed in, and is an
        admin unless told otherwise. InvalidError("invalid_email" or "invalid_password"),
        ConflictError("email_taken" or "supabase_id_taken").
        """
        address = new_email(email)
        hashed = None if password is None else await self._passwords.hash(password)
        # two first ones, in two processes, would both take the one id
        async with (
            self._database.alone(SYSTEM, "accounts"),
            self._database.transaction(SYSTEM) as tx,
        ):
            directory = AccountDirectory(tx)
            if await directory.with_email(address) is not None:
                raise _email_taken(address)
            await self._free(directory, supabase_id)
            first = await directory.get(LOCAL_ACCOUNT_ID) is None
            account = Account(
                id=LOCAL_ACCOUNT_ID if first else self._new_id(),
                email=address,
                role=role or (Role.ADMIN if first else Role.MEMBER),
                created_at=self._clock.now(),
                supabase_id=supabase_id,
            )
            await directory.add(account, hashed)
        log.info("account.added", extra={"account": str(account.id), "role": account.role.value})
        return account

    async def change(self, by: Principal, account_id: UUID, change: UserChange) -> User:
        """Change role, quotas, or whether it may do anything.

        Disabling ends its sessions and API tokens at the same moment; then ``on_disabled`` is
        called, also when it was disabled before, so that a repetition finishes what a failure left.
        Before one is enabled it is called too: a request that was being answered while it was
        disabled may have left a run. NotFoundError, ConflictError("last_admin").
        """
        if change.disabled is False and not (await self.get(account_id)).account.is_enabled:
            await self._tell(account_id)
        async with self._database.transaction(SYSTEM) as tx:
            directory = AccountDirectory(tx)
            admins = await directory.enabled_admins()
            account, _ = _found(await directory.get_to_change(account_id))
            changed = _changed(account, change, self._clock.now())
            stays = changed.is_enabled and changed.role is Role.ADMIN
            if admins == {account_id} and not stays:
                raise ConflictError("last_admin", "The last admin stays one.")
            await directory.save(changed)
            if changed.disabled_at != account.disabled_at:
                # when it is enabled as well: a token may have been made while it was being disabled
                await directory.end_sessions(account_id)
                await directory.end_tokens(account_id)
        what = change.model_dump(exclude_unset=True)
        log.info(
            "account.changed", extra={"account": str(account_id), "by": str(by.id), "what": what}
        )
        if change.disabled:
            await self._tell(account_id)
        return await self.get(account_id)

    async def set_password(self, account_id: UUID, password: str) -> None:
        """A new password; every session ends. InvalidError("invalid_password"), NotFoundError."""
        hashed = await self._passwords.hash(password)
        async with self._database.transaction(SYSTEM) as tx:
            directory = AccountDirectory(tx)
            _found(await directory.get_to_change(account_id))
            await directory.set_password(account_id, hashed)
            await directory.end_sessions(account_id)
        log.info("account.password_set", extra={"account": str(account_id)})

    async def link(self, account_id: UUID, supabase_id: UUID) -> None:
        """Let a user of Supabase be this account, and not the empty one of its first sight.

        ConflictError("supabase_id_taken"), NotFoundError.
        """
        async with self._database.transaction(SYSTEM) as tx:
            directory = AccountDirectory(tx)
            account, _ = _found(await directory.get_to_change(account_id))
            if account.supabase_id != supabase_id:
                email = await self._free(directory, supabase_id)
                linked = replace(account, supabase_id=supabase_id, supabase_email=email)
                await directory.save(linked)
        log.info(
            "account.linked",
            extra={"account": str(account_id), "supabase_id": str(supabase_id)},
        )

    async def _free(self, directory: AccountDirectory, supabase_id: UUID | None) -> str | None:
        """Take the id, and the e-mail that it came with, from an account that is nothing else.

        Whoever signed in before an admin said who it is has one: it is disabled for good.
        ConflictError("supabase_id_taken") when it has things, an e-mail of its own or rights.
        """
        holder = None
        if supabase_id is not None:
            holder = await directory.with_supabase_id(supabase_id)
        if holder is None:
            return None
        usage = await directory.usage([holder.id])
        if holder.email or holder.role is Role.ADMIN or usage[holder.id] != Usage():
            raise _supabase_id_taken(supabase_id, holder)
        ended = holder.disabled_at or self._clock.now()
        await directory.save(
            replace(holder, supabase_id=None, supabase_email=None, disabled_at=ended)
        )
        await directory.end_sessions(holder.id)
        await directory.end_tokens(holder.id)
        log.info("account.replaced", extra={"account": str(holder.id)})
        return holder.supabase_email

    async def _tell(self, account_id: UUID) -> None:
        """Call everybody; one that fails keeps no other from being called."""
        calls = [call(account_id) for call in self._on_disabled]
        results: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result


def _changed(account: Account, change: UserChange, at: datetime) -> Account:
    given = change.model_fields_set
    values: dict[str, Any] = {
        name: getattr(change, name) for name in Quotas._fields if name in given
    }
    if change.role is not None:
        values["role"] = Role(change.role)
    if change.disabled is not None and change.disabled == account.is_enabled:
        values["disabled_at"] = at if change.disabled else None
    return replace(account, **values)


def _found(found: T | None) -> T:
    if found is None:
        raise NotFoundError("account")
    return found


def _supabase_id_taken(supabase_id: UUID | None, holder: Account) -> ConflictError:
    return ConflictError(
        "supabase_id_taken",
        f"The account {holder.id} is that user of Supabase already.",
        {"supabase_id": str(supabase_id), "account": str(holder.id)},
    )


def _email_taken(email: str) -> ConflictError:
    return ConflictError(
        "email_taken", f"There is an account with the e-mail {email} already.", {"email": email}
    )


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None

"""Whom other rooms' names and ids of people mean."""

from collections.abc import Collection, Mapping
from uuid import UUID

from ..database import Database
from ..principal import SYSTEM, normal_email
from .models import Account
from .store import AccountDirectory


class People:
    """Looks people up for others. What is found is not the asker's to see in full."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def named(self, names: Collection[str]) -> Mapping[str, Account]:
        """The accounts with these e-mails or ids, by what was asked; those unknown are missing.

        Nobody is found by what Supabase calls them: nobody may have proved that.
        """
        emails = {name: normal_email(name) for name in names}
        ids = {name: account_id for name in names if (account_id := _uuid(name)) is not None}
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            accounts = await AccountDirectory(tx).among(set(emails.values()), set(ids.values()))
        by_email = {account.email: account for account in accounts if account.email is not None}
        by_id = {account.id: account for account in accounts}
        found: dict[str, Account] = {}
        for name, email in emails.items():
            account = by_email.get(email) or by_id.get(ids.get(name, _NOBODY))
            if account is not None:
                found[name] = account
        return found

    async def labels(self, ids: Collection[UUID]) -> Mapping[UUID, str]:
        """What each of these may be named by: the e-mail, else the id. Never what Supabase says."""
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            accounts = await AccountDirectory(tx).among((), ids)
        emails = {account.id: account.email for account in accounts}
        return {each: _label(each, emails.get(each)) for each in ids}


_NOBODY = UUID(int=0)


def _label(account_id: UUID, email: str | None) -> str:
    """An address that holds a separator cannot stand before one."""
    return str(account_id) if email is None or set(email) & {"/", "\\"} else email


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text.strip())
    except ValueError:
        return None

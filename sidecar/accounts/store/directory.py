"""Every account: what signing in and the admins need."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from ...database import Transaction
from ...database.pages import Cursor, Page, cut, newest_first
from ...database.tables import accounts, api_tokens, lora_versions, loras, runs, sessions, workflows
from ...errors import ConflictError
from ...principal import Role
from ..models import Account, Usage
from ..user_views import UserQuery
from .columns import ACCOUNT, account_of

UNFINISHED = ("queued", "preparing", "running")


class AccountDirectory:
    """All accounts, inside a transaction of ``SYSTEM``."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def get(self, account_id: UUID) -> Account | None:
        """One, or None."""
        return await self._one(accounts.c.id == account_id)

    async def get_to_change(self, account_id: UUID) -> tuple[Account, str | None] | None:
        """One with its password's hash; nobody else changes it before this transaction ends."""
        return await self._with_password(accounts.c.id == account_id, to_change=True)

    async def with_password(self, email: str) -> tuple[Account, str | None] | None:
        """The one with this e-mail, and its password's hash where it has one."""
        return await self._with_password(accounts.c.email == email)

    async def with_email(self, email: str) -> Account | None:
        """The one with this e-mail, or None."""
        return await self._one(accounts.c.email == email)

    async def among(self, emails: Collection[str], ids: Collection[UUID]) -> Sequence[Account]:
        """Those that have one of these e-mails or ids."""
        asked = accounts.c.email.in_(list(emails)) | accounts.c.id.in_(list(ids))
        rows = await self._tx.execute(sa.select(*ACCOUNT).where(asked))
        return [account_of(row) for row in rows.all()]

    async def with_supabase_id(self, supabase_id: UUID) -> Account | None:
        """The one that Supabase knows under this id, or None."""
        return await self._one(accounts.c.supabase_id == supabase_id)

    async def add(self, account: Account, password_hash: str | None) -> None:
        """Insert it. ConflictError("account_exists") when id, e-mail or Supabase id are taken."""
        values = {
            "id": account.id,
            "email": account.email,
            "role": account.role.value,
            "supabase_id": account.supabase_id,
            "supabase_email": account.supabase_email,
            "password_hash": password_hash,
            "created_at": account.created_at,
        }
        with self._tx.unique_or(_exists()):
            await self._tx.execute(accounts.insert().values(values))

    async def save(self, account: Account) -> None:
        """Write what an admin changes of one. ConflictError("account_exists")."""
        values = {
            "role": account.role.value,
            "supabase_id": account.supabase_id,
            "supabase_email": account.supabase_email,
            "max_runs": account.max_runs,
            "max_bytes": account.max_bytes,
            "max_loras": account.max_loras,
            "max_lora_bytes": account.max_lora_bytes,
            "disabled_at": account.disabled_at,
        }
        with self._tx.unique_or(_exists()):
            await self._change(account.id, values)

    async def set_password(self, account_id: UUID, password_hash: str) -> None:
        """Write the hash."""
        await self._change(account_id, {"password_hash": password_hash})

    async def set_supabase_email(self, account_id: UUID, email: str | None) -> None:
        """Write what Supabase calls it."""
        await self._change(account_id, {"supabase_email": email})

    async def seen(self, account_id: UUID, at: datetime) -> None:
        """Remember that it was here."""
        await self._change(account_id, {"seen_at": at})

    async def enabled_admins(self) -> set[UUID]:
        """The admins who can do something; nobody changes them before this transaction ends.

        Always in one order: two who ask wait for each other, and never both.
        """
        query = (
            sa.select(accounts.c.id)
            .where(accounts.c.role == Role.ADMIN.value, accounts.c.disabled_at.is_(None))
            .order_by(accounts.c.id)
            .with_for_update()
        )
        return set((await self._tx.execute(query)).scalars().all())

    async def end_sessions(self, account_id: UUID) -> None:
        """End every session of an account."""
        await self._tx.execute(sessions.delete().where(sessions.c.owner_id == account_id))

    async def end_tokens(self, account_id: UUID) -> None:
        """Delete every API token of an account."""
        await self._tx.execute(api_tokens.delete().where(api_tokens.c.owner_id == account_id))

    async def page(self, asked: UserQuery) -> Page[Account]:
        """Accounts, newest first."""
        query = sa.select(*ACCOUNT)
        if asked.q is not None:
            shown = sa.func.coalesce(accounts.c.email, accounts.c.supabase_email)
            query = query.where(shown.icontains(asked.q, autoescape=True))
        rows = (await self._tx.execute(newest_first(query, accounts, asked))).all()
        page = cut(rows, asked, lambda row: Cursor(row.created_at, row.id))
        return page.map(account_of)

    async def usage(self, owners: Collection[UUID]) -> Mapping[UUID, Usage]:
        """What each of these has, in one query. Deleted things are not counted."""
        rows = (await self._tx.execute(_usage_of(owners))).all()
        figures: dict[UUID, dict[str, int]] = defaultdict(dict)
        for row in rows:
            figures[row.owner_id][row.figure] = int(row.number)
        return {owner: Usage(**figures[owner]) for owner in owners}

    async def _one(self, condition: sa.ColumnElement[bool]) -> Account | None:
        found = (await self._tx.execute(sa.select(*ACCOUNT).where(condition))).one_or_none()
        return None if found is None else account_of(found)

    async def _with_password(
        self, condition: sa.ColumnElement[bool], *, to_change: bool = False
    ) -> tuple[Account, str | None] | None:
        query = sa.select(*ACCOUNT, accounts.c.password_hash).where(condition)
        if to_change:
            query = query.with_for_update()
        found = (await self._tx.execute(query)).one_or_none()
        return None if found is None else (account_of(found), found.password_hash)

    async def _change(self, account_id: UUID, values: Mapping[str, Any]) -> None:
        await self._tx.execute(
            accounts.update().where(accounts.c.id == account_id).values(dict(values))
        )


def _exists() -> ConflictError:
    return ConflictError("account_exists", "There is such an account already.")


def _usage_of(owners: Collection[UUID]) -> sa.CompoundSelect[Any]:
    """Rows of (owner, figure of ``Usage``, number); reads no more than the narrow role may."""

    def figure(
        name: str, table: sa.Table, number: sa.ColumnElement[Any], *only: sa.ColumnElement[bool]
    ) -> sa.Select[Any]:
        owner = table.c.owner_id
        return (
            sa.select(owner, sa.literal(name).label("figure"), number.label("number"))
            .where(owner.in_(list(owners)), *only)
            .group_by(owner)
        )

    one_each = sa.func.count()
    return sa.union_all(
        figure("runs", runs, one_each),
        figure("unfinished_runs", runs, one_each, runs.c.status.in_(UNFINISHED)),
        figure("workflows", workflows, one_each, workflows.c.deleted_at.is_(None)),
        figure("loras", loras, one_each, loras.c.head_version > 0),
        figure("lora_bytes", lora_versions, sa.func.sum(lora_versions.c.bytes)),
    )

"""A person's own account, sessions and API tokens. Every statement names the owner."""

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from ...database import Transaction
from ...database.pages import Cursor, Page, PageQuery, cut, newest_first
from ...database.tables import (
    accounts,
    api_tokens,
    lora_versions,
    loras,
    runs,
    sessions,
    uploads,
)
from ..models import Account, ApiToken, Session, Spent
from .columns import ACCOUNT, SESSION, TOKEN, account_of, session_of, token_of
from .directory import UNFINISHED


class OwnAccount:
    """The asker's account, inside the asker's transaction."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def get(self) -> Account | None:
        """It; None in a studio without sign-in, where nobody needs to have one."""
        query = sa.select(*ACCOUNT).where(accounts.c.id == self._tx.principal.id)
        found = (await self._tx.execute(query)).one_or_none()
        return None if found is None else account_of(found)

    async def spent(self) -> Spent:
        """What counts against its quotas."""
        unfinished = (
            sa.select(sa.func.count())
            .select_from(runs)
            .where(self._tx.mine(runs), runs.c.status.in_(UNFINISHED))
        )
        stored = sa.select(sa.func.coalesce(sa.func.sum(lora_versions.c.bytes), 0)).where(
            self._tx.mine(lora_versions)
        )
        coming = sa.select(sa.func.coalesce(sa.func.sum(uploads.c.length), 0)).where(
            self._tx.mine(uploads), uploads.c.state.in_(("receiving", "finishing"))
        )
        count = sa.select(sa.func.count()).select_from(loras).where(self._tx.mine(loras))
        figures = (unfinished, stored, coming, count)
        found = await self._tx.execute(sa.select(*(each.scalar_subquery() for each in figures)))
        row: tuple[Any, ...] = tuple(found.one())
        return Spent(int(row[0]), int(row[1]) + int(row[2]), int(row[3]))


class SessionStore:
    """One person's sessions, inside that person's transaction. Ended ones are not there."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def page(self, asked: PageQuery, at: datetime) -> Page[Session]:
        """Those that had not ended by then, newest first."""
        query = sa.select(*SESSION).where(self._tx.mine(sessions), sessions.c.expires_at > at)
        rows = (await self._tx.execute(newest_first(query, sessions, asked))).all()
        return cut(rows, asked, lambda row: Cursor(row.created_at, row.id)).map(session_of)

    async def end(self, session_id: UUID) -> bool:
        """End one; whether there was one."""
        gone = sessions.delete().where(self._tx.mine(sessions), sessions.c.id == session_id)
        return (await self._tx.execute(gone)).rowcount > 0

    async def end_others(self, current: UUID | None) -> None:
        """End all but this one."""
        gone = sessions.delete().where(self._tx.mine(sessions))
        if current is not None:
            gone = gone.where(sessions.c.id != current)
        await self._tx.execute(gone)


class TokenStore:
    """One person's API tokens, inside that person's transaction."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def add(self, token: ApiToken, token_sha256: str) -> None:
        """Insert it."""
        values = {
            "id": token.id,
            "owner_id": self._tx.principal.id,
            "name": token.name,
            "token_sha256": token_sha256,
            "scopes": list(token.scopes),
            "created_at": token.created_at,
            "expires_at": token.expires_at,
        }
        await self._tx.execute(api_tokens.insert().values(values))

    async def get(self, token_id: UUID) -> ApiToken | None:
        """One, or None."""
        query = sa.select(*TOKEN).where(self._tx.mine(api_tokens), api_tokens.c.id == token_id)
        found = (await self._tx.execute(query)).one_or_none()
        return None if found is None else token_of(found)

    async def page(self, asked: PageQuery) -> Page[ApiToken]:
        """All, expired ones too, newest first."""
        query = sa.select(*TOKEN).where(self._tx.mine(api_tokens))
        rows = (await self._tx.execute(newest_first(query, api_tokens, asked))).all()
        return cut(rows, asked, lambda row: Cursor(row.created_at, row.id)).map(token_of)

    async def delete(self, token_id: UUID) -> bool:
        """Delete one; whether there was one."""
        gone = api_tokens.delete().where(self._tx.mine(api_tokens), api_tokens.c.id == token_id)
        return (await self._tx.execute(gone)).rowcount > 0

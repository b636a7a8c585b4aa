"""Whose a session or an API token is: found by the hash of what was shown."""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from ...database import Transaction
from ...database.tables import accounts, api_tokens, sessions
from ..models import Holder, Session
from .columns import ACCOUNT, account_of


class CredentialDirectory:
    """All sessions and API tokens, inside a transaction of ``SYSTEM``."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def session(self, token_sha256: str) -> Holder | None:
        """Whose session this is, whether it has ended or not."""
        query = (
            sa.select(
                *ACCOUNT,
                sessions.c.id.label("credential"),
                sessions.c.seen_at.label("used_at"),
                sessions.c.expires_at,
                accounts.c.password_hash.is_not(None).label("has_password"),
            )
            .join_from(sessions, accounts, accounts.c.id == sessions.c.owner_id)
            .where(sessions.c.token_sha256 == token_sha256)
        )
        row = (await self._tx.execute(query)).one_or_none()
        if row is None:
            return None
        return Holder(
            account_of(row),
            row.credential,
            row.used_at,
            row.expires_at,
            has_password=bool(row.has_password),
        )

    async def token(self, token_sha256: str) -> Holder | None:
        """Whose API token this is, whether it has expired or not."""
        query = (
            sa.select(
                *ACCOUNT,
                api_tokens.c.id.label("credential"),
                api_tokens.c.last_used_at,
                api_tokens.c.expires_at,
                api_tokens.c.scopes,
            )
            .join_from(api_tokens, accounts, accounts.c.id == api_tokens.c.owner_id)
            .where(api_tokens.c.token_sha256 == token_sha256)
        )
        row = (await self._tx.execute(query)).one_or_none()
        if row is None:
            return None
        scopes = frozenset(row.scopes)
        return Holder(account_of(row), row.credential, row.last_used_at, row.expires_at, scopes)

    async def is_live(self, credential: UUID, owner: UUID, at: datetime) -> bool:
        """Whether this session or API token of that account is good at this moment."""
        session = sa.exists().where(
            sessions.c.id == credential,
            sessions.c.owner_id == owner,
            sessions.c.expires_at > at,
        )
        token = sa.exists().where(
            api_tokens.c.id == credential,
            api_tokens.c.owner_id == owner,
            sa.or_(api_tokens.c.expires_at.is_(None), api_tokens.c.expires_at > at),
        )
        return bool((await self._tx.execute(sa.select(sa.or_(session, token)))).scalar_one())

    async def add_session(self, owner: UUID, session: Session, token_sha256: str) -> None:
        """Insert it."""
        values = {
            "id": session.id,
            "owner_id": owner,
            "token_sha256": token_sha256,
            "user_agent": session.user_agent,
            "address": session.address,
            "created_at": session.created_at,
            "seen_at": session.seen_at,
            "expires_at": session.expires_at,
        }
        await self._tx.execute(sessions.insert().values(values))

    async def session_used(
        self, session_id: UUID, at: datetime, expires_at: datetime | None
    ) -> None:
        """Remember its use, and when it will end where that has changed."""
        values = (
            {"seen_at": at} if expires_at is None else {"seen_at": at, "expires_at": expires_at}
        )
        await self._tx.execute(sessions.update().where(sessions.c.id == session_id).values(values))

    async def token_used(self, token_id: UUID, at: datetime) -> None:
        """Remember its use."""
        change = api_tokens.update().where(api_tokens.c.id == token_id)
        await self._tx.execute(change.values(last_used_at=at))

    async def end_session(self, token_sha256: str) -> UUID | None:
        """End the session of this token. Its id, or None where there is none."""
        query = sa.select(sessions.c.id).where(sessions.c.token_sha256 == token_sha256)
        found: UUID | None = (await self._tx.execute(query)).scalar_one_or_none()
        if found is not None:
            await self._tx.execute(sessions.delete().where(sessions.c.id == found))
        return found

    async def forget_ended_sessions(self, at: datetime) -> None:
        """Delete the sessions, anybody's, that had ended by then."""
        await self._tx.execute(sessions.delete().where(sessions.c.expires_at <= at))

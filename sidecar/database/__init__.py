"""The one way to stored rows: ``async with database.transaction(principal) as tx``.

A store is built on a ``Transaction`` and adds the owner to every statement, so a query without
somebody who asks cannot be written; on Postgres row-level security binds as well. The service owns
the transaction; stores never commit.
"""

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ..errors import AtelierError
from ..principal import Principal


@dataclass(frozen=True)
class Transaction:
    """One person's open transaction."""

    principal: Principal
    connection: AsyncConnection

    def mine(self, table: sa.FromClause) -> sa.ColumnElement[bool]:
        """The condition that every statement of a store has: the row is the asker's."""
        return table.c.owner_id == self.principal.id

    def granted(self, shares: sa.FromClause) -> sa.ColumnElement[bool]:
        """The condition for shares of others that grant something to the asker, or to everybody."""
        to_asker = shares.c.grantee_id == self.principal.id
        is_granted = shares.c.grantee_id.is_(None) | to_asker
        return is_granted & (shares.c.owner_id != self.principal.id)

    async def execute(self, statement: sa.Executable) -> sa.CursorResult[Any]:
        """Run one statement. Its rows are buffered."""
        return await self.connection.execute(statement)

    async def alone(self, what: str) -> None:
        """Wait until no other transaction of this account is past this for the same ``what``.

        For what is decided by counting: two transactions do not see each other's new rows.
        """
        if self.connection.dialect.name == "postgresql":  # SQLite has one writer at a time
            key = sa.func.hashtextextended(f"{self.principal.id}/{what}", 0)
            await self.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))

    @contextmanager
    def unique_or(self, error: AtelierError) -> Iterator[None]:
        """Turn a broken unique constraint inside the block into ``error``.

        The transaction is lost by then: let the error leave it.
        """
        try:
            yield
        except sa.exc.IntegrityError:
            raise error from None


class Database(Protocol):
    """A migrated database.

    Every method raises UnavailableError("database") when it is away, and StorageFullError when its
    disk is full.
    """

    def transaction(
        self, principal: Principal, *, read_only: bool = False
    ) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction as ``principal``; commits on leaving, rolls back on any error.

        ``read_only`` never waits for a writer; writing in it is an error.
        """

    def alone(self, principal: Principal, what: str) -> AbstractAsyncContextManager[None]:
        """One at a time per account and ``what``, in every process that shares the database.

        Holds no transaction of the caller's: work that takes minutes may be done inside.
        """

    async def check(self) -> None:
        """Answer when the database can be read."""

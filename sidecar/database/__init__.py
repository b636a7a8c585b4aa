"""The one way to stored rows: ``async with database.transaction(principal) as tx``.

A store is built on a ``Transaction`` and adds the owner to every statement, so a query without
somebody who asks cannot be written. The service owns the transaction; stores never commit.
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

    async def execute(self, statement: sa.Executable) -> sa.CursorResult[Any]:
        """Run one statement. Its rows are buffered."""
        return await self.connection.execute(statement)

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

    async def check(self) -> None:
        """Answer when the database can be read."""

"""The database that a studio moves into, through the same door as everybody's: as its owners."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ..database import Database
from ..database.migrations import require_head
from ..errors import InvalidError
from ..principal import SYSTEM, Principal
from .parts import PARTS, Key, Part, Row, shown_key

_REFUSALS = (sa.exc.StatementError, UnicodeError)


class Destination:
    """Rows that have arrived. On Postgres row-level security holds for each of them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def require_this_version(self) -> None:
        """InvalidError("database_not_migrated" or "database_too_new")."""
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            await tx.connection.run_sync(require_head)

    async def owners(self) -> set[UUID]:
        """Every account that has things."""
        owners: set[UUID] = set()
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            for part in PARTS:
                if part.is_owned and not part.is_child:
                    query = sa.select(part.table.c.owner_id).distinct()
                    owners |= set((await tx.execute(query)).scalars())
        return owners

    async def first_key(self, part: Part, who: Principal, after: Key | None = None) -> Key | None:
        """The first key after this one; None when there is none."""
        keys = await self._keys(part, who, *([] if after is None else [part.after(after)]), limit=1)
        return keys[0] if keys else None

    async def rows(
        self, part: Part, who: Principal, after: Key | None, until: Key, limit: int
    ) -> Sequence[Row]:
        """The rows of this account whose keys lie behind ``after`` and not behind ``until``."""
        query = sa.select(part.table).where(part.until(until)).order_by(*part.key).limit(limit)
        if after is not None:
            query = query.where(part.after(after))
        async with self._database.transaction(who, read_only=True) as tx:
            if part.is_owned:
                query = query.where(tx.mine(part.table))
            return [part.row(row) for row in (await tx.execute(query)).mappings()]

    async def add(self, part: Part, who: Principal, rows: Sequence[Row]) -> None:
        """Write those that are not there; one transaction.

        InvalidError("row_refused") names the row that this database cannot hold.
        """
        try:
            await self._add(part, who, rows)
        except _REFUSALS as error:
            if len(rows) > 1:
                for row in rows:
                    await self.add(part, who, [row])
                return
            raise InvalidError(
                "row_refused",
                f"The destination does not take the row {shown_key(rows[0].key)} of {part.name}: "
                f"{_reason(error)}.",
                {"table": part.name, "key": shown_key(rows[0].key)},
            ) from error

    async def _add(self, part: Part, who: Principal, rows: Sequence[Row]) -> None:
        there = set(await self._keys(part, who, part.among([row.key for row in rows])))
        missing: list[Mapping[str, Any]] = [row.values for row in rows if row.key not in there]
        if not missing:
            return
        async with self._database.transaction(who) as tx:
            on_postgres = tx.connection.dialect.name == "postgresql"
            insert = (postgresql.insert if on_postgres else sqlite.insert)(part.table)
            # somebody else's row with this key stays too, and is found when all is compared
            once = insert.on_conflict_do_nothing(index_elements=list(part.key))
            await tx.connection.execute(once, missing)

    async def _keys(
        self, part: Part, who: Principal, *which: sa.ColumnElement[bool], limit: int | None = None
    ) -> Sequence[Key]:
        query = sa.select(*part.key).where(*which).order_by(*part.key).limit(limit)
        async with self._database.transaction(who, read_only=True) as tx:
            if part.is_owned:
                query = query.where(tx.mine(part.table))
            return [tuple(key) for key in await tx.execute(query)]


def _reason(error: Exception) -> str:
    """What a database says of a refused row, without the row."""
    if not isinstance(error, sa.exc.StatementError):
        return "a text that is no Unicode"
    said = getattr(getattr(error.orig, "diag", None), "message_primary", None)
    return str(said or error.orig)

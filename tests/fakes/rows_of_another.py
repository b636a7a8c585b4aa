"""Tries every table, in SQL, as somebody for another's rows: what row-level security must refuse.

Each statement runs in a savepoint, in a transaction that is rolled back. Findings are sentences.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection
from two_people import owner_of

from sidecar.database.postgres_errors import code_of
from sidecar.database.tables import metadata, runs, workflows

DENIED = "42501"
NO_PARENT = "23503"
BY_POLICY = {(runs.name, "workflow_id"): workflows}
"""References that no constraint has: a run outlives its workflow."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How many rows a statement concerned, or the SQLSTATE that it was refused with."""

    rows: int = 0
    code: str = ""

    @property
    def is_nothing(self) -> bool:
        """Whether it saw and changed nothing, or was not allowed to try."""
        return self in (Outcome(0), Outcome(code=DENIED))


@dataclass(frozen=True)
class Place:
    """A table with a row of each of the two."""

    table: sa.Table
    own: Row
    own_count: int
    theirs: Row
    parents: Mapping[str, Any]
    """What the other's row has in each column that refers to a parent, or could have."""

    @property
    def owner(self) -> sa.Column[Any]:
        """Whose a row is."""
        return owner_of(self.table)

    @property
    def key(self) -> Sequence[str]:
        """Its primary key."""
        return [column.name for column in self.table.primary_key]

    def is_(self, row: Row) -> sa.ColumnElement[bool]:
        """The condition for one row."""
        return sa.and_(*(self.table.c[name] == row[name] for name in self.key))

    def fresh(self, row: Row) -> dict[str, Any]:
        """A copy that breaks no unique constraint."""
        copy = dict(row)
        for name in _unique(self.table) - set(self.parents) - {"owner_id"}:
            value = copy[name]
            if isinstance(value, int):
                copy[name] = value + 1000
            elif value is not None:
                copy[name] = uuid4() if isinstance(value, UUID) else uuid4().hex
        return copy


def places(admin: sa.Engine, own: UUID, other: UUID) -> dict[str, Place]:
    """Every table; read as its owner. A table in which one of the two has nothing is an error."""
    found = {}
    with admin.connect() as connection:
        for name, table in metadata.tables.items():
            owned = sa.select(table).where(owner_of(table) == own)
            mine = [dict(row._mapping) for row in connection.execute(owned)]
            others = sa.select(table).where(owner_of(table) == other)
            theirs = [dict(row._mapping) for row in connection.execute(others)]
            assert mine, f"the asker has nothing in {name}: nothing would be proved"
            assert theirs, f"the other has nothing in {name}: nothing would be proved"
            parents = {}
            for column, parent in references(table):
                query = sa.select(parent.c.id).where(owner_of(parent) == other).limit(1)
                parents[column] = connection.execute(query).scalar_one()
            found[name] = Place(table, mine[0], len(mine), theirs[0], parents)
    return found


def references(table: sa.Table) -> Iterator[tuple[str, sa.Table]]:
    """Columns that refer to a parent of the same owner, and what they refer to."""
    for constraint in table.foreign_key_constraints:
        for column in constraint.column_keys:
            if column != "owner_id":
                yield column, constraint.referred_table
    for (name, column), parent in BY_POLICY.items():
        if name == table.name:
            yield column, parent


def _unique(table: sa.Table) -> set[str]:
    names = {column.name for column in table.c if column.primary_key or column.unique}
    for constraint in table.constraints:
        if isinstance(constraint, sa.UniqueConstraint):
            names |= {column.name for column in constraint.columns}
    for index in table.indexes:
        if index.unique:
            names |= {column.name for column in index.columns}
    return names


class Intruder:
    """Somebody's transaction, used for all that one could try in SQL.

    ``by_grants`` says that the role has no more rights than the product gives it.
    """

    def __init__(
        self, connection: AsyncConnection, place: Place, *, by_grants: bool = True
    ) -> None:
        self._connection = connection
        self._place = place
        self._by_grants = by_grants
        self.findings: list[str] = []

    async def try_everything(self, *, stop_at_first: bool = False) -> list[str]:
        """All of it, or until something is found."""
        for attempt in (
            self._read,
            self._insert,
            self._give_away,
            self._change,
            self._hang_on_their_parents,
            self._take_by_key,
            self._go_around,
        ):
            await attempt()
            if stop_at_first and self.findings:
                break
        return self.findings

    async def _read(self) -> None:
        table, place = self._place.table, self._place
        for column in table.c:
            self._must_be_nothing(
                f"select {column.name}",
                await self.tried(
                    sa.select(column).where(place.owner == place.theirs[place.owner.name])
                ),
            )
        key = [table.c[name] for name in place.key]
        by_key = sa.select(*key).where(place.is_(place.theirs))
        self._must_be_nothing("select by key", await self.tried(by_key))
        self._must_be_nothing("for update", await self.tried(by_key.with_for_update()))
        self._must_count("select key", await self.tried(sa.select(*key)))

    async def _change(self) -> None:
        table, place = self._place.table, self._place
        theirs = place.owner == place.theirs[place.owner.name]
        bound = _unique(table) | set(place.parents) | {"owner_id"}
        for column in table.c:
            change = table.update().values({column.name: place.theirs[column.name]})
            self._must_be_nothing(f"update {column.name}", await self.tried(change.where(theirs)))
            if column.name not in bound:
                # without a condition the policy for reading has no part in it
                change = table.update().values({column.name: place.own[column.name]})
                self._may_concern_own(f"update all {column.name}", await self.tried(change))
        self._must_be_nothing("delete", await self.tried(table.delete().where(theirs)))
        children = [
            each for each in metadata.tables.values() if table in dict(_constrained(each)).values()
        ]
        deleted = await self.tried(*(each.delete() for each in children), table.delete())
        self._may_concern_own("delete all", deleted)

    async def _insert(self) -> None:
        place = self._place
        copied = await self.tried(place.table.insert().values(place.fresh(place.theirs)))
        if copied != Outcome(code=DENIED):
            self._note("insert a copy for the other", copied)
        own = await self.tried(place.table.insert().values(place.fresh(place.own)))
        if own not in (Outcome(1), Outcome(code=DENIED)):
            self._note("insert a copy of one's own, so the copies are no good", own)

    async def _hang_on_their_parents(self) -> None:
        table, place = self._place.table, self._place
        fresh = place.fresh(place.own)
        # with another number where that is in the key: the other may have the same
        keys = {name: fresh[name] for name in place.key if isinstance(fresh[name], int)}
        for column, theirs in place.parents.items():
            for what in ("insert", "update"):
                outcomes = []
                for parent in (theirs, uuid4()):
                    if what == "insert":
                        statement: sa.Executable = table.insert().values(fresh | {column: parent})
                    else:
                        mine = table.update().where(place.is_(place.own))
                        statement = mine.values(keys | {column: parent})
                    outcomes.append(await self.tried(statement))
                real, vain = outcomes
                if real != vain:
                    self._note(f"{what} {column}, another's parent, unlike {vain}", real)
                if real.code not in (DENIED, NO_PARENT) and real != Outcome(0):
                    self._note(f"{what} {column}, another's parent", real)

    async def _give_away(self) -> None:
        place = self._place
        change = place.table.update().values({place.owner.name: place.theirs[place.owner.name]})
        given = await self.tried(change.where(place.is_(place.own)))
        self._must_be_nothing("give one's own to the other", given)
        self._must_be_nothing("give all to the other", await self.tried(change))

    async def _take_by_key(self) -> None:
        place = self._place
        key = {name: place.theirs[name] for name in place.key}
        for row in (place.fresh(place.own) | key, place.theirs):
            taken = postgresql.insert(place.table).values(row)
            for column in place.table.c:
                upsert = taken.on_conflict_do_update(
                    index_elements=place.key, set_={column.name: place.own[column.name]}
                )
                done = await self.tried(upsert)
                if done != Outcome(code=DENIED):
                    self._note(f"insert on conflict update {column.name}", done)

    async def _go_around(self) -> None:
        name, count = self._place.table.name, self._place.own_count
        key = ", ".join(self._place.key)
        rows = f"select {key} from {name}"  # noqa: S608 - names of ours
        view = f"create temporary view peek as {rows}"
        self._must_count("a view", await self.tried(view, "select * from peek"))
        counting = sa.select(sa.func.count()).select_from(sa.table(name, schema="atelier"))
        function = (
            "create function pg_temp.peek() returns bigint language sql security definer as"
            f" $$ {counting} $$"
        )
        counted = await self.tried(function, f"select 1 where pg_temp.peek() = {count}")
        if counted != Outcome(1):
            self._note("a function", counted)
        self._must_count("copy", await self._copied(f"copy {name} ({key}) to stdout"))
        if self._by_grants:
            for statement in (
                f"truncate {name} cascade",
                f"create view atelier.peek as {rows}",
                f"alter table {name} disable row level security",
                f"create policy mine on {name} using (true)",
                f"drop policy if exists {name}_owner_select on {name}",
            ):
                refused = await self.tried(statement)
                if refused != Outcome(code=DENIED):
                    self._note(statement, refused)
        off = await self.tried("set local row_security = off", rows)
        if off != Outcome(code=DENIED):
            self._note("row_security = off", off)

    async def tried(self, *statements: sa.Executable | str) -> Outcome:
        """What the last of these does, after the others; nothing of it stays."""
        savepoint = await self._connection.begin_nested()
        done = 0
        try:
            for each in statements:
                statement = sa.text(each) if isinstance(each, str) else each
                options = {"preserve_rowcount": True}
                result = await self._connection.execute(statement, execution_options=options)
                done = max(result.rowcount, 0)
        except sa.exc.DBAPIError as error:
            return Outcome(code=code_of(error))
        finally:
            with suppress(sa.exc.ResourceClosedError):
                await savepoint.rollback()
        return Outcome(done)

    async def _copied(self, statement: str) -> Outcome:
        raw = await self._connection.get_raw_connection()
        driver: Any = raw.driver_connection
        try:
            async with (
                driver.transaction(),
                driver.cursor() as cursor,
                cursor.copy(statement) as copy,
            ):
                return Outcome(len([row async for row in copy.rows()]))
        except psycopg.Error as error:
            return Outcome(code=error.sqlstate or "")

    def _must_be_nothing(self, what: str, outcome: Outcome) -> None:
        if not outcome.is_nothing:
            self._note(what, outcome)

    def _must_count(self, what: str, outcome: Outcome) -> None:
        """Exactly one's own."""
        if outcome != Outcome(self._place.own_count):
            self._note(f"{what}, of {self._place.own_count} own", outcome)

    def _may_concern_own(self, what: str, outcome: Outcome) -> None:
        """All of one's own, or nothing where the table is not for changing."""
        is_denied = outcome == Outcome(code=DENIED) and self._by_grants
        if outcome != Outcome(0) and not is_denied:
            self._must_count(what, outcome)

    def _note(self, what: str, outcome: Outcome) -> None:
        self.findings.append(f"{self._place.table.name}: {what}: {outcome}")


def _constrained(table: sa.Table) -> Iterator[tuple[str, sa.Table]]:
    for column, parent in references(table):
        if (table.name, column) not in BY_POLICY:
            yield column, parent

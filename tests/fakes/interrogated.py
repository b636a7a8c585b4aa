"""One studio with two people in it, asked everything: with both walls that hold them apart, with
one of them alone, and what came of it.

The walls are the owner in every statement's WHERE, and row-level security. Each studio is closed
when it has been asked: what stays is the findings, and its database.
"""

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

import pytest
import sqlalchemy as sa
from asked_as_another import Findings, Inquiry, as_, ask_as_owner
from databases import PostgresStudios
from two_people import Person, Things, World, furnish, opened_world, queue

from sidecar.database import Transaction
from sidecar.database.tables import metadata

ADMIN, ANN, BEN = "boss@example.org", "ann@example.org", "ben@example.org"


class Walls(str, Enum):
    """Where the studio is, and what holds its people apart."""

    SQLITE = "sqlite"
    POSTGRES = "postgres"
    POLICIES = "postgres, policies alone"
    CONDITIONS = "postgres, conditions alone"


@dataclass
class Told:
    """What came of asking.

    Findings by route, and under ``lists``, ``rows`` and ``files`` what changed of them.
    """

    findings: Findings
    ann: Things
    ben: Things
    database: str = ""
    """On Postgres its name."""
    copies: Sequence[Path] = ()
    """On SQLite copies of the file from before Ann came, and from before anybody was asked."""
    holes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """How many findings there were with a hole in this table; ``NO_TABLE``: without one."""


def interrogate(walls: Walls, folder: Path, postgres: PostgresStudios | None) -> Told:
    """Make the studio, ask everything, close it."""
    name = None if postgres is None else postgres.new()
    urls = (
        None if postgres is None or name is None else (postgres.url(name), postgres.admin_url(name))
    )
    folder.mkdir()
    with ThreadPoolExecutor(1) as elsewhere:  # the test that needs it may have a loop of its own
        told = elsewhere.submit(asyncio.run, _interrogated(walls, folder, urls)).result()
    told.database = name or ""
    return told


async def _interrogated(walls: Walls, folder: Path, urls: tuple[str, str] | None) -> Told:
    async with opened_world(folder, urls) as world:
        admin, ben = await world.join(ADMIN, sessions=1), await world.join(BEN)
        bens = await furnish(world, ben, "benjamin", 10)
        alone = Inquiry(ben, bens, bens, frozenset(), defaultdict(list))
        before = await alone.reads(alone.nobody)
        copies = [_copied(world, "before.db")] if urls is None else []
        ann = await world.join(ANN)
        anns = await furnish(world, ann, "annabel", 20)
        await world.hold(admin)
        anns = replace(anns, queued=await queue(ann, anns))
        copies += [_copied(world, "after.db")] if urls is None else []
        inquiry = Inquiry(ben, bens, anns, _secrets(world, ann, ben, admin), defaultdict(list))
        told = Told(inquiry.findings, anns, bens, copies=copies)
        async with _taken_down(walls, world):
            after = await alone.reads(alone.nobody)
            changed = [each for each in before if before[each] != after[each]]
            told.findings["lists"] += changed
            await _asked_about(walls, world, inquiry, ann, admin, told)
    return told


async def _asked_about(
    walls: Walls, world: World, inquiry: Inquiry, ann: Person, admin: Person, told: Told
) -> None:
    """Ann's things, by Ben; then by the pack, by both at once, and by Ann."""
    rows, files = world.rows(ann.id), world.files(ann.id)
    _require_lived_in(rows, files)
    await _with_holes(walls, world, inquiry, told)
    await _asked(walls, inquiry, admin)
    now = world.rows(ann.id)
    told.findings["rows"] += [each for each in rows if rows[each] != now[each]]
    left = world.files(ann.id)
    told.findings["files"] += [name for name in files | left if files.get(name) != left.get(name)]
    await inquiry.ask_for_the_prompt()
    if walls in (Walls.POSTGRES, Walls.POLICIES):
        await _many_at_once(inquiry, ann, inquiry.asker)
    if walls is not Walls.CONDITIONS:
        await ask_as_owner(ann, inquiry.other, admin, inquiry.secrets, told.findings)


async def _asked(walls: Walls, inquiry: Inquiry, admin: Person) -> None:
    if walls in (Walls.SQLITE, Walls.POSTGRES):
        await inquiry.asker.tokens_that_lack_a_scope()
        await inquiry.ask_without()
        # an admin sees nothing of anybody's either, unless asked for explicitly
        silent = Inquiry(admin, inquiry.nobody, inquiry.other, inquiry.secrets, inquiry.findings)
        await silent.ask_as_an_admin()
    await inquiry.ask_for_admins()
    await inquiry.ask_as_the_pack()
    # last: it makes things of the other's names
    await inquiry.ask_everything()


@asynccontextmanager
async def _taken_down(walls: Walls, world: World) -> AsyncIterator[None]:
    """One of the two walls, for a while."""
    with pytest.MonkeyPatch.context() as patch:
        if walls is Walls.POLICIES:
            patch.setattr(Transaction, "mine", lambda _tx, _table: sa.true())
            patch.setattr(Transaction, "granted", of_others)
        if walls is Walls.CONDITIONS:
            for name in metadata.tables:
                await _run(world, f"alter table {name} no force row level security")
                await _run(world, f"alter table {name} disable row level security")
        yield


async def _many_at_once(inquiry: Inquiry, ann: Person, ben: Person) -> None:
    """Two hundred reads of both at the same time: each sees what is theirs, and all of it."""
    paths = ("/workflows", "/loras", "/runs", "/sessions", "/tokens", "/loras/names", "/auth/me")
    alone = {
        (person.email, path): (await _read(person, path)) for person in (ann, ben) for path in paths
    }

    async def read(number: int) -> None:
        person, path = (ann, ben)[number % 2], paths[number // 2 % len(paths)]
        if await _read(person, path) != alone[person.email, path]:
            inquiry.findings["many at once"].append(f"{path} answered {person.email} otherwise")

    await asyncio.gather(*(read(number) for number in range(200)))


async def _read(person: Person, path: str) -> str:
    status, answered = await person.studio.ask("GET", path, headers=as_(person))
    assert status == 200, answered
    return str(answered)


async def _with_holes(walls: Walls, world: World, inquiry: Inquiry, told: Told) -> None:
    """The reads once more, with holes in a wall: they must find what no other wall covers.

    With both walls, a hole in either of them is covered by the other.
    """
    told.holes[NO_TABLE] = await _found(inquiry)
    if walls is not Walls.POLICIES:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Transaction, "granted", of_others)
            told.holes[GRANTED] = await _found(inquiry)
    for table in ASKED_FOR_FIRST:
        if walls is not Walls.POLICIES:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Transaction, "mine", _forgetting(table))
                told.holes[table] += await _found(inquiry)
        if walls in (Walls.POLICIES, Walls.POSTGRES):
            await _run(
                world, f"create policy hole on {table} for select to authenticated using (true)"
            )
            told.holes[table] += await _found(inquiry)
            await _run(world, f"drop policy hole on {table}")


NO_TABLE = "none"
GRANTED = "granted"
"""Whom a LoRA is shared with, forgotten."""


def of_others(tx: Transaction, shares: sa.FromClause) -> sa.ColumnElement[bool]:
    """``Transaction.granted`` without whom something is granted to."""
    return shares.c.owner_id != tx.principal.id


def _asked_for_first() -> list[str]:
    owned = [table for table in metadata.tables.values() if "owner_id" in table.c]
    parents = {table.name: {key.column.table for key in table.foreign_keys} for table in owned}
    return [table.name for table in owned if not parents[table.name] & set(owned)]


ASKED_FOR_FIRST = _asked_for_first()
"""Tables whose rows are asked for by themselves: nobody gets to a version past its parent."""


async def _found(inquiry: Inquiry) -> int:
    again = Inquiry(inquiry.asker, inquiry.own, inquiry.other, inquiry.secrets, defaultdict(list))
    await again.look_for_secrets()
    return sum(map(len, again.findings.values()))


def _forgetting(
    forgotten: str,
) -> Callable[[Transaction, sa.FromClause], sa.ColumnElement[bool]]:
    mine = Transaction.mine

    def forgetful(tx: Transaction, table: sa.FromClause) -> sa.ColumnElement[bool]:
        name = getattr(table, "name", "")
        return sa.true() if name == forgotten else mine(tx, table)

    return forgetful


async def _run(world: World, statement: str) -> None:
    """In a thread: it waits for transactions of the sidecar, which end on this one."""

    def run() -> None:
        with world.admin.begin() as connection:
            connection.exec_driver_sql(statement)

    await asyncio.to_thread(run)


def _secrets(world: World, ann: Person, *others: Person) -> frozenset[str]:
    words = world.words(ann.id)
    for person in others:
        words -= world.words(person.id)
    return frozenset(words)


def _copied(world: World, name: str) -> Path:
    copy = world.folder / name
    source = sqlite3.connect(str(world.admin.url.database))
    target = sqlite3.connect(copy)
    with target:
        source.backup(target)
    source.close()
    target.close()
    return copy


def _require_lived_in(rows: dict[str, list[tuple[str, ...]]], files: dict[str, str]) -> None:
    """A table without a row of Ann's would be asked about in vain."""
    empty = [name for name, found in rows.items() if not found]
    assert not empty, f"furnish() makes nothing for {empty}"
    assert len(files) > 4, files

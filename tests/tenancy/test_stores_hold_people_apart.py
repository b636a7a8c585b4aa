"""The owner in every statement alone: every method of every store, with another's ids."""

import ast
import shutil
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa
from databases import sqlite_database
from interrogated import Told, Walls, of_others
from repository import ROOT
from stores_of_another import (
    ACROSS,
    CALLS,
    Caller,
    Held,
    held_by,
    methods,
    nothing_like,
    stores,
    wrong_with,
)

from sidecar.database import Database, Transaction
from sidecar.loras.store.shares import SharedLoras
from sidecar.principal import Principal

pytestmark = pytest.mark.timeout(180)

OWN = sorted(stores() - ACROSS, key=lambda store: store.__name__)
EVERY_STORE = pytest.mark.parametrize("store", OWN, ids=lambda store: store.__name__)
GUARDED_TWICE = {"LoraStore.by_filename", "SharedLoras._shown", "UseStore.workflows"}
"""They find what another condition lets them see: the LoRA of a version, one that is shared, the
workflow of one's own run."""


class Two:
    """Ann, whose things they are, and Ben, who has her ids, now and before she came."""

    def __init__(self, database: Database, before: Database, told: Told, anns: Held) -> None:
        self.anns, self.nothing = anns, nothing_like(anns)
        self.ann = Caller(database, Principal(UUID(told.ann.account)), anns)
        self.friend = Caller(database, Principal(UUID(told.ann.friend)), anns)
        self.ben = Caller(database, Principal(UUID(told.ben.account)), anns)
        self.ben_alone = Caller(before, self.ben.principal, anns)

    def wrong_with(self, store: type) -> AsyncGenerator[str, None]:
        """What Ben learns or changes of hers."""
        return wrong_with(self.ben, self.ben_alone, self.nothing, store)


@pytest.fixture
async def two(interrogated: Callable[[Walls], Told], tmp_path: Path) -> AsyncIterator[Two]:
    """On files of this test's own, from before anybody was asked anything."""
    told = interrogated(Walls.SQLITE)
    before, after = (shutil.copy(file, tmp_path) for file in told.copies)
    async with sqlite_database(Path(after)) as database, sqlite_database(Path(before)) as alone:
        ann = Principal(UUID(told.ann.account))
        yield Two(database, alone, told, await held_by(database, ann, told.ann))


def test_every_method_of_every_store_has_an_entry() -> None:
    assert CALLS.keys() == {(store, name) for store in OWN for name in methods(store)}


@EVERY_STORE
async def test_a_store_does_not_know_anothers_ids(two: Two, store: type) -> None:
    assert [wrong async for wrong in two.wrong_with(store)] == []


@EVERY_STORE
async def test_a_store_knows_them_when_their_owner_asks(two: Two, store: type) -> None:
    rows = await two.ann.rows()
    knows = two.friend if store is SharedLoras else two.ann
    for method in methods(store):
        asked = await knows.call(store, method, two.anns)
        in_vain = await knows.call(store, method, two.nothing)
        as_another = await two.ben.call(store, method, two.anns)
        is_real = asked != in_vain or asked.rows != rows or asked.outcome != as_another.outcome
        assert is_real, method


@EVERY_STORE
async def test_a_condition_that_is_forgotten_anywhere_is_found(
    two: Two, store: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, granted, places, forgotten = Transaction.mine, Transaction.granted, set(), ""

    def is_forgotten() -> bool:
        caller = sys._getframe(2)
        place = f"{type(caller.f_locals.get('self')).__name__}.{caller.f_code.co_name}"
        places.add(place)
        return place == forgotten

    def forgetful(tx: Transaction, table: sa.FromClause) -> sa.ColumnElement[bool]:
        return sa.true() if is_forgotten() else mine(tx, table)

    def generous(tx: Transaction, shares: sa.FromClause) -> sa.ColumnElement[bool]:
        return of_others(tx, shares) if is_forgotten() else granted(tx, shares)

    monkeypatch.setattr(Transaction, "mine", forgetful)
    monkeypatch.setattr(Transaction, "granted", generous)
    assert [wrong async for wrong in two.wrong_with(store)] == []
    reached, unnoticed = frozenset(places), set()
    for forgotten in sorted(reached):
        async with aclosing(two.wrong_with(store)) as wrong:
            if await anext(wrong, None) is None:
                unnoticed.add(forgotten)
    assert unnoticed == reached & GUARDED_TWICE


def test_what_reads_everybodys_rows_is_opened_by_the_sidecar_itself_alone() -> None:
    across = {store.__name__ for store in ACROSS}
    opened = set()
    for file in sorted((ROOT / "sidecar").rglob("*.py")):
        for block in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(block, ast.AsyncWith):
                continue
            begun = [ast.unparse(item.context_expr) for item in block.items]
            for call in ast.walk(block):
                if isinstance(call, ast.Call) and ast.unparse(call.func) in across:
                    opened.add(ast.unparse(call.func))
                    assert any("transaction(SYSTEM" in each for each in begun), (file, begun)
    assert opened == across

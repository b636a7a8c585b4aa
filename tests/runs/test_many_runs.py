"""What keeps a studio with a million runs quick: old events go, and every query has its index.

Which index is asked of SQLite: its choice hangs on the query alone, not on what is in the table.
"""

import sqlite3
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from clock import FakeClock
from some_runs import some_run

from sidecar.accounts.store import OwnAccount
from sidecar.database import Database, Transaction
from sidecar.database.pages import Cursor
from sidecar.database.sqlite import SqliteDatabase, async_engine
from sidecar.principal import LOCAL, SYSTEM, Principal
from sidecar.runs.models import Run, Status
from sidecar.runs.store import RunQueue, RunStore
from sidecar.runs.views import RunQuery

NOW = FakeClock().now()
DEEP = str(Cursor(NOW, uuid4()))
WORKFLOW = UUID(int=7)
RUNS = "ix_comfyui_workflow_runs"


async def told(database: Database, run: Run, *happened: timedelta) -> None:
    async with database.transaction(Principal(run.owner_id)) as tx:
        store = RunStore(tx)
        await store.add(run)
        for ago in happened:
            await store.add_event(run.id, "status", {"status": run.status.value}, NOW - ago)


async def left(database: Database, run: Run) -> int:
    async with database.transaction(Principal(run.owner_id), read_only=True) as tx:
        return len(await RunStore(tx).events(run.id, after=0))


async def test_old_events_of_runs_that_ended_long_ago_are_dropped(database: Database) -> None:
    day, hour = timedelta(days=1), timedelta(hours=1)
    old = some_run(NOW, status=Status.SUCCEEDED, finished_at=NOW - 2 * day)
    recent = some_run(NOW, status=Status.SUCCEEDED, finished_at=NOW - hour)
    waiting = some_run(NOW, owner_id=uuid4())
    await told(database, old, 3 * day, 2 * day)
    await told(database, recent, 3 * day, hour)
    await told(database, waiting, 3 * day)
    async with database.transaction(SYSTEM) as tx:
        assert await RunQueue(tx).trim_events(NOW - day) == 2
    assert [await left(database, run) for run in (old, recent, waiting)] == [0, 2, 1]


async def plans(
    file: Path, principal: Principal, query: Callable[[Transaction], Awaitable[Any]]
) -> list[str]:
    """How SQLite finds the rows of what this asks, a line for each table."""
    engine = async_engine(file)
    asked: list[tuple[str, Any]] = []

    def note(*call: Any) -> None:
        asked.append((call[2], call[3]))

    sa.event.listen(engine.sync_engine, "before_cursor_execute", note)
    try:
        async with SqliteDatabase(engine).transaction(principal) as tx:
            await query(tx)
    finally:
        await engine.dispose()
    connection = sqlite3.connect(file)
    try:
        return [
            str(line[3])
            for statement, parameters in asked
            if not statement.startswith("BEGIN")
            for line in connection.execute(f"explain query plan {statement}", parameters)
        ]
    finally:
        connection.close()


PAGES = [
    (RunQuery(), "page (owner_id=?)"),
    (RunQuery(cursor=DEEP), "page (owner_id=? AND (created_at,id)<(?,?))"),
    (RunQuery(since=NOW), "page (owner_id=? AND created_at>?)"),
    (RunQuery(status=Status.QUEUED), "owner_status (owner_id=? AND status=?)"),
    (
        RunQuery(status=Status.QUEUED, cursor=DEEP),
        "owner_status (owner_id=? AND status=? AND (created_at,id)<(?,?))",
    ),
    (RunQuery(workflow_id=WORKFLOW), "workflow (owner_id=? AND workflow_id=?)"),
    (
        RunQuery(workflow_id=WORKFLOW, cursor=DEEP),
        "workflow (owner_id=? AND workflow_id=? AND (created_at,id)<(?,?))",
    ),
]


@pytest.mark.parametrize(("asked", "index"), PAGES)
async def test_a_page_begins_where_its_index_says(
    database_file: Path, asked: RunQuery, index: str
) -> None:
    found = await plans(database_file, LOCAL, lambda tx: RunStore(tx).page(asked))
    assert len(found) == 1  # neither a sort nor a second table
    assert found[0].endswith(f"INDEX {RUNS}_{index}")


@pytest.mark.parametrize(
    "query",
    [
        lambda tx: RunStore(tx).count_unfinished(),
        lambda tx: RunStore(tx).unfinished(),
        lambda tx: OwnAccount(tx).spent(),
    ],
)
async def test_what_is_unfinished_is_found_without_what_is_finished(
    database_file: Path, query: Callable[[Transaction], Awaitable[Any]]
) -> None:
    found = await plans(database_file, LOCAL, query)
    of_runs = [line for line in found if "comfyui_workflow_runs" in line]
    assert len(of_runs) == 1
    assert of_runs[0].endswith(f"{RUNS}_owner_status (owner_id=? AND status=?)")


@pytest.mark.parametrize(
    "query",
    [
        lambda tx: RunQueue(tx).claim_next("worker", NOW),
        lambda tx: RunQueue(tx).claimed_by("worker"),
        lambda tx: RunQueue(tx).is_waiting(),
        lambda tx: RunQueue(tx).ahead_of(some_run(NOW)),
        lambda tx: RunQueue(tx).trim_events(NOW),
    ],
)
async def test_the_queue_is_served_without_reading_all_there_ever_was(
    database_file: Path, query: Callable[[Transaction], Awaitable[Any]]
) -> None:
    found = await plans(database_file, SYSTEM, query)
    assert found
    assert [line for line in found if line.startswith("SCAN")] == []

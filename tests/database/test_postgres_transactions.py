"""Transactions on Postgres, directly and behind a pooler: whose they are, and what they leave."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from databases import opened
from workflow_rows import MOMENT, add_workflow, owners_seen, workflow_row

from sidecar.database.postgres import PostgresDatabase, Waits
from sidecar.database.tables import workflow_versions, workflows
from sidecar.errors import ConflictError, TimedOutError, UnavailableError
from sidecar.principal import SYSTEM, Principal

ANN, BOB = Principal(UUID(int=1)), Principal(UUID(int=2))
WHO = sa.text(
    "select pg_backend_pid(), current_user, current_setting('request.jwt.claims', true),"
    " current_setting('search_path'), current_setting('statement_timeout'),"
    " current_setting('transaction_read_only')"
)
NOBODY = ["atelier_app", "", '"$user", public', "0", "off"]
INSUFFICIENT_PRIVILEGE = "42501"


async def left_behind(database: PostgresDatabase) -> tuple[int, list[str]]:
    """The connection that comes next from the pool, and what it carries."""
    async with database.as_login() as connection:
        pid, *carries = (await connection.execute(WHO)).one()
    return pid, [each or "" for each in carries]


async def used(database: PostgresDatabase, *, read_only: bool = False) -> int:
    """Ann's transaction; the connection that it had."""
    async with database.transaction(ANN, read_only=read_only) as tx:
        pid, role, claims, path, timeout, reading = (await tx.execute(WHO)).one()
    assert (role, path, timeout) == ("authenticated", "atelier", "15s")
    assert str(ANN.id) in claims
    assert reading == ("on" if read_only else "off")
    return int(pid)


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_committed_transaction_leaves_nobody_on_its_connection(
    shared: PostgresDatabase, read_only: bool
) -> None:
    pid = await used(shared, read_only=read_only)
    assert await left_behind(shared) == (pid, NOBODY)


async def test_an_error_leaves_nobody_on_the_connection(shared: PostgresDatabase) -> None:
    with pytest.raises(sa.exc.DataError):
        async with shared.transaction(ANN) as tx:
            await tx.execute(sa.text("select 1 / 0"))
    assert (await left_behind(shared))[1] == NOBODY


async def test_a_cancelled_request_leaves_nobody_on_any_connection(
    shared: PostgresDatabase,
) -> None:
    entered = asyncio.Event()

    async def slow() -> None:
        async with shared.transaction(ANN) as tx:
            entered.set()
            await tx.execute(sa.text("select pg_sleep(60)"))

    task = asyncio.create_task(slow())
    await entered.wait()
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert (await left_behind(shared))[1] == NOBODY


async def test_requests_cancelled_at_any_moment_take_no_connection_from_the_pool(
    shared: PostgresDatabase,
) -> None:
    async def request() -> None:
        async with shared.transaction(ANN) as tx:
            await tx.execute(sa.select(workflows))

    for number in range(60):
        task = asyncio.create_task(request())
        await asyncio.sleep(number / 10_000)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await asyncio.gather(*(used(shared) for _ in range(15)))


async def test_interleaved_people_see_their_own_rows_alone(shared: PostgresDatabase) -> None:
    people = [Principal(UUID(int=number)) for number in range(1, 6)]
    for each in people:
        await add_workflow(shared, each)

    async def look(number: int) -> bool:
        me = people[number % len(people)]
        return await owners_seen(shared, me) == {me.id}

    assert all(await asyncio.gather(*(look(number) for number in range(200))))


async def test_without_a_role_nothing_can_be_read(shared: PostgresDatabase) -> None:
    with pytest.raises(sa.exc.ProgrammingError) as refused:
        async with shared.as_login() as connection:
            await connection.execute(sa.text("select * from atelier.comfyui_workflows"))
    assert getattr(refused.value.orig, "sqlstate", None) == INSUFFICIENT_PRIVILEGE


async def test_a_role_without_claims_sees_no_row(shared: PostgresDatabase) -> None:
    await add_workflow(shared, ANN)
    async with shared.as_login() as connection:
        await connection.execute(sa.text("set local role authenticated"))
        rows = await connection.execute(sa.text("select * from atelier.comfyui_workflows"))
        assert rows.all() == []


async def test_nobody_can_give_a_row_away_or_take_one(shared: PostgresDatabase) -> None:
    await add_workflow(shared, ANN)
    with pytest.raises(sa.exc.ProgrammingError):
        async with shared.transaction(BOB) as tx:
            await tx.execute(workflows.insert().values(workflow_row(ANN.id, name="forged")))
    with pytest.raises(sa.exc.ProgrammingError):
        async with shared.transaction(ANN) as tx:
            await tx.execute(workflows.update().values(owner_id=BOB.id))
    assert await owners_seen(shared, BOB) == set()


async def test_the_narrow_role_reads_no_name_and_no_graph(shared: PostgresDatabase) -> None:
    for column in (workflows.c.name, workflow_versions.c.workflow_json):
        with pytest.raises(sa.exc.ProgrammingError):
            async with shared.transaction(SYSTEM, read_only=True) as tx:
                await tx.execute(sa.select(column))


async def test_an_error_inside_a_transaction_undoes_it(shared: PostgresDatabase) -> None:
    async def fail() -> None:
        async with shared.transaction(ANN) as tx:
            await tx.execute(workflows.insert().values(workflow_row(ANN.id)))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await owners_seen(shared, ANN) == set()


async def test_a_broken_unique_constraint_becomes_the_error_the_store_names(
    shared: PostgresDatabase,
) -> None:
    await add_workflow(shared, ANN, name="taken")

    async def take() -> None:
        async with shared.transaction(ANN) as tx:
            with tx.unique_or(ConflictError("name_taken", "taken")):
                await tx.execute(workflows.insert().values(workflow_row(ANN.id, name="taken")))

    with pytest.raises(ConflictError):
        await take()


async def test_a_reader_cannot_write(shared: PostgresDatabase) -> None:
    with pytest.raises(UnavailableError):
        async with shared.transaction(ANN, read_only=True) as tx:
            await tx.execute(workflows.insert().values(workflow_row(ANN.id)))


async def test_a_statement_that_takes_too_long_is_ended(url: str) -> None:
    async with opened(url, waits=Waits(statement=0.2)) as database:
        with pytest.raises(TimedOutError) as ended:
            async with database.transaction(ANN) as tx:
                await tx.execute(sa.text("select pg_sleep(60)"))
    assert ended.value.details == {"system": "database"}


async def test_of_two_that_wait_for_each_other_one_is_told_to_come_again(
    shared: PostgresDatabase,
) -> None:
    rows = [await add_workflow(shared, ANN, name=name) for name in ("a", "b")]
    held = [asyncio.Event(), asyncio.Event()]

    async def change(first: int) -> None:
        async with shared.transaction(ANN) as tx:
            for turn, number in enumerate((first, 1 - first)):
                change = workflows.update().where(workflows.c.id == rows[number])
                await tx.execute(change.values(name=f"by {first} at {turn} of {number}"))
                held[number].set()
                await held[1 - number].wait()

    ends = await asyncio.gather(change(0), change(1), return_exceptions=True)
    assert sorted(type(each) for each in ends if each) == [UnavailableError]


async def test_what_is_stored_comes_back_exactly(shared: PostgresDatabase) -> None:
    graph: dict[str, Any] = {"z": 1, "a": {"y": 2**70, "b": [0.1, 1e300, -0.0]}, "1": "日本 %s ''"}
    workflow_id = await add_workflow(shared, ANN, name="100% \\ 'ü' 🙂", tags=["b", "a", 2**70])
    row = {
        "workflow_id": workflow_id,
        "version": 2**31 - 1,
        "owner_id": ANN.id,
        "author_id": ANN.id,
        "workflow_json": graph,
        "inputs": [],
        "sha256": "0" * 64,
        "created_at": MOMENT,
    }
    async with shared.transaction(ANN) as tx:
        await tx.execute(workflow_versions.insert().values(row))
    async with shared.transaction(ANN, read_only=True) as tx:
        version = (await tx.execute(sa.select(workflow_versions))).one()
        workflow = (await tx.execute(sa.select(workflows))).one()
    assert list(version.workflow_json) == ["z", "a", "1"]
    assert (version.workflow_json, version.created_at) == (graph, MOMENT)
    assert (workflow.name, workflow.tags) == ("100% \\ 'ü' 🙂", ["b", "a", 2**70])


@pytest.mark.parametrize("text", ["nul \0 inside", "half \ud800 a pair"])
async def test_text_that_no_database_holds_is_refused_and_nothing_else_is_lost(
    shared: PostgresDatabase, text: str
) -> None:
    with pytest.raises((sa.exc.DataError, UnicodeEncodeError)):
        await add_workflow(shared, ANN, name=text)
    await add_workflow(shared, ANN)
    assert await owners_seen(shared, ANN) == {ANN.id}

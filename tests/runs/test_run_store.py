"""Runs in SQL: guarded transitions, fair claims, pages, events, and nobody else's."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from clock import FakeClock
from sample_graphs import txt2img
from some_runs import some_run

from sidecar.database import Database
from sidecar.errors import ConflictError, NotFoundError
from sidecar.principal import LOCAL, SYSTEM, Principal
from sidecar.runs.models import FINAL, UNFINISHED, Run, RunError, Status
from sidecar.runs.store import RunQueue, RunStore
from sidecar.runs.views import RunQuery
from sidecar.workflows.models import WorkflowOrder
from sidecar.workflows.service import WorkflowService

ANNA, BOB = Principal(uuid4()), Principal(uuid4())


async def stored(database: Database, *runs: Run) -> None:
    for run in runs:
        async with database.transaction(Principal(run.owner_id)) as tx:
            await RunStore(tx).add(run)


async def claim(database: Database, clock: FakeClock) -> tuple[object, ...] | None:
    clock.tick()
    async with database.transaction(SYSTEM) as tx:
        return await RunQueue(tx).claim_next("worker", clock.now())


async def test_a_run_comes_back_as_it_was_stored(database: Database, clock: FakeClock) -> None:
    error = RunError("node_failed", "no", "3", {"exception_type": "ValueError"})
    run = some_run(clock.now(), status=Status.FAILED, error=error, prompt={"1": {"ü": [1, 2.5]}})
    await stored(database, run)
    async with database.transaction(LOCAL) as tx:
        assert await RunStore(tx).get(run.id) == run


@pytest.mark.parametrize("final", FINAL)
async def test_a_final_state_is_final(database: Database, clock: FakeClock, final: Status) -> None:
    run = some_run(clock.now(), status=final)
    await stored(database, run)
    async with database.transaction(LOCAL) as tx:
        assert not await RunStore(tx).change(run.id, UNFINISHED, status=Status.RUNNING)
        assert (await RunStore(tx).get(run.id)).status is final


async def test_a_late_writer_of_an_earlier_attempt_changes_nothing(
    database: Database, clock: FakeClock
) -> None:
    run = some_run(clock.now(), status=Status.RUNNING, attempts=2)
    await stored(database, run)
    async with database.transaction(LOCAL) as tx:
        assert not await RunStore(tx).change(run.id, UNFINISHED, attempt=1, status=Status.FAILED)


async def test_a_newcomer_is_served_before_the_rest_of_a_long_queue(
    database: Database, clock: FakeClock
) -> None:
    annas = []
    for _ in range(3):
        clock.tick()
        annas.append(some_run(clock.now(), ANNA.id))
    await stored(database, *annas)
    first = await claim(database, clock)
    bobs = some_run(clock.now(), BOB.id)
    await stored(database, bobs)
    second, third = await claim(database, clock), await claim(database, clock)
    assert [taken and taken[0] for taken in (first, second, third)] == [
        annas[0].id,
        bobs.id,
        annas[1].id,
    ]


async def test_past_runs_do_not_starve_anyone(database: Database, clock: FakeClock) -> None:
    old = [
        some_run(clock.now(), ANNA.id, status=Status.SUCCEEDED, started_at=clock.now())
        for _ in range(50)
    ]
    await stored(database, *old)
    clock.tick(60)
    annas = some_run(clock.now(), ANNA.id)
    await stored(
        database,
        some_run(clock.now(), BOB.id, status=Status.SUCCEEDED, started_at=clock.now()),
        some_run(clock.now(), BOB.id),
        annas,
    )
    assert await claim(database, clock) == (annas.id, 1)


async def test_one_accounts_runs_are_claimed_oldest_first_and_once(
    database: Database, clock: FakeClock
) -> None:
    runs = []
    for _ in range(3):
        clock.tick()
        runs.append(some_run(clock.now(), ANNA.id))
    await stored(database, *reversed(runs))
    claimed = [await claim(database, clock) for _ in range(4)]
    assert [taken and taken[0] for taken in claimed] == [*(run.id for run in runs), None]


async def test_a_claim_counts_an_attempt_and_names_the_worker(
    database: Database, clock: FakeClock
) -> None:
    run = some_run(clock.now())
    await stored(database, run)
    await claim(database, clock)
    async with database.transaction(LOCAL) as tx:
        claimed = await RunStore(tx).get(run.id)
    assert (claimed.status, claimed.attempts, claimed.worker_id) == (
        Status.PREPARING,
        1,
        "worker",
    )


async def test_the_position_counts_older_queued_runs(database: Database, clock: FakeClock) -> None:
    older = some_run(clock.now(), ANNA.id)
    done = some_run(clock.now(), ANNA.id, status=Status.SUCCEEDED)
    clock.tick()
    run = some_run(clock.now(), BOB.id)
    await stored(database, older, done, run)
    async with database.transaction(SYSTEM) as tx:
        assert await RunQueue(tx).ahead_of(run) == 1


async def test_pages_show_every_run_once_newest_first(database: Database, clock: FakeClock) -> None:
    runs = []
    for index in range(7):
        clock.tick(index % 2)  # pairs share a moment: the id decides
        runs.append(some_run(clock.now()))
    await stored(database, *runs)
    seen, cursor = [], None
    while True:
        async with database.transaction(LOCAL) as tx:
            page = await RunStore(tx).page(RunQuery(limit=2, cursor=cursor))
        seen += [run.id for run in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    ordered = sorted(runs, key=lambda run: (run.created_at, run.id.hex), reverse=True)
    assert seen == [run.id for run in ordered]


async def stored_workflow(database: Database, clock: FakeClock) -> UUID:
    """A workflow that runs may name."""
    service = WorkflowService(database, clock, uuid4)
    order = WorkflowOrder.model_validate({"name": "cat", "workflow_json": txt2img()})
    return (await service.add(LOCAL, order))[0].id


async def test_pages_can_be_narrowed(database: Database, clock: FakeClock) -> None:
    workflow_id = await stored_workflow(database, clock)
    wanted = some_run(clock.now(), workflow_id=workflow_id, status=Status.FAILED)
    await stored(database, wanted, some_run(clock.now()), some_run(clock.now(), status="failed"))
    asked = RunQuery(workflow_id=workflow_id, status=Status.FAILED, since=clock.now())
    async with database.transaction(LOCAL) as tx:
        page = await RunStore(tx).page(asked)
    assert [run.id for run in page.items] == [wanted.id]


async def test_events_are_numbered_from_one_and_resume_after_any(
    database: Database, clock: FakeClock
) -> None:
    run = some_run(clock.now())
    await stored(database, run)
    async with database.transaction(LOCAL) as tx:
        store = RunStore(tx)
        for kind in ("status", "node", "done"):
            await store.add_event(run.id, kind, {"x": kind}, clock.now())
        events = await store.events(run.id, 1)
    assert [(event.seq, event.type) for event in events] == [(2, "node"), (3, "done")]


async def test_an_idempotency_key_is_used_once_per_account(
    database: Database, clock: FakeClock
) -> None:
    await stored(
        database,
        some_run(clock.now(), ANNA.id, idempotency_key="k"),
        some_run(clock.now(), BOB.id, idempotency_key="k"),
    )
    with pytest.raises(ConflictError):
        await stored(database, some_run(clock.now(), ANNA.id, idempotency_key="k"))


async def test_only_a_finished_run_can_be_deleted(database: Database, clock: FakeClock) -> None:
    going, ended = some_run(clock.now()), some_run(clock.now(), status=Status.FAILED)
    await stored(database, going, ended)
    async with database.transaction(LOCAL) as tx:
        store = RunStore(tx)
        await store.add_event(ended.id, "done", {}, clock.now())
        assert not await store.delete(going.id)
        assert await store.delete(ended.id)
        with pytest.raises(NotFoundError):
            await store.get(ended.id)


async def test_another_account_finds_changes_and_deletes_nothing(
    database: Database, clock: FakeClock
) -> None:
    run = some_run(clock.now(), ANNA.id, status=Status.SUCCEEDED, idempotency_key="k")
    await stored(database, run)
    async with database.transaction(ANNA) as tx:
        await RunStore(tx).add_event(run.id, "done", {}, clock.now())
    async with database.transaction(BOB) as tx:
        store = RunStore(tx)
        with pytest.raises(NotFoundError):
            await store.get(run.id)
        assert (await store.page(RunQuery())).items == []
        assert await store.by_idempotency_key("k") is None
        assert await store.events(run.id, 0) == []
        assert not await store.change(run.id, FINAL, status=Status.FAILED)
        assert not await store.delete(run.id)
        assert await store.count_unfinished() == 0
    async with database.transaction(ANNA) as tx:
        assert await RunStore(tx).get(run.id) == run
        assert len(await RunStore(tx).events(run.id, 0)) == 1


async def test_a_clock_that_was_ahead_keeps_nobody_waiting_for_it(
    database: Database, clock: FakeClock
) -> None:
    ahead = clock.now() + timedelta(hours=5)
    done = some_run(clock.now(), ANNA.id, status=Status.SUCCEEDED, started_at=ahead)
    first = some_run(clock.now(), BOB.id, status=Status.SUCCEEDED, started_at=clock.now())
    waiting = [some_run(clock.now(), who.id) for who in (BOB, BOB, ANNA)]
    await stored(database, done, first, *waiting)
    claimed = await claim(database, clock)
    assert claimed is not None
    assert claimed[0] == waiting[2].id

"""The Engine port on DBOS: steps in order, across failures, stops and starts."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from dbos._error import DBOSWorkflowConflictIDError
from dbos._utils import INTERNAL_QUEUE_NAME

from sidecar.database import postgres
from sidecar.database.sqlite import sync_engine
from sidecar.engine import Go
from sidecar.engine.dbos import DbosEngine

WAIT_SECONDS = 20


class Steps:
    """Real steps that write down what they were asked, and can be told to do worse."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.over = asyncio.Event()
        self.special: dict[str, Callable[[], Awaitable[Go]]] = {}

    async def _step(self, name: str, run_id: str, attempt: int) -> Go:
        assert (run_id, attempt) == ("run", 1)
        self.asked.append(name)
        go = await self.special[name]() if name in self.special else Go.ON
        if name == "collect" or go is Go.STOP:
            self.over.set()
        return go

    async def prepare(self, run_id: str, attempt: int) -> Go:
        return await self._step("prepare", run_id, attempt)

    async def submit(self, run_id: str, attempt: int) -> Go:
        return await self._step("submit", run_id, attempt)

    async def follow(self, run_id: str, attempt: int) -> Go:
        return await self._step("follow", run_id, attempt)

    async def collect(self, run_id: str, attempt: int) -> Go:
        return await self._step("collect", run_id, attempt)

    async def give_up(self, run_id: str, attempt: int, reason: str) -> None:
        assert (run_id, attempt) == ("run", 1)
        self.asked.append(f"give up: {reason}")
        self.over.set()

    async def wait(self) -> list[str]:
        await asyncio.wait_for(self.over.wait(), WAIT_SECONDS)
        return self.asked


class Stand:
    """Builds engines on one database, as restarts of the sidecar do."""

    def __init__(self, database: sa.Engine, schema: str | None = None) -> None:
        self.database = database
        self._schema = schema

    def engine(self, steps: Steps) -> DbosEngine:
        return DbosEngine(steps, self.database, executor_id="local", schema=self._schema)


@pytest.fixture(params=["sqlite", "postgres"])
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    if request.param == "sqlite":
        made = Stand(sync_engine(tmp_path / "engine.db"))
    else:
        url = request.getfixturevalue("postgres_url")
        made = Stand(postgres.sync_engine(url), postgres.ENGINE_SCHEMA)
    yield made
    made.database.dispose()


async def ended(engine: DbosEngine, attempt: int = 1) -> None:
    """Wait until DBOS has recorded the end, which comes just after the last step."""
    for _ in range(WAIT_SECONDS * 20):
        if not await engine.start("run", attempt):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the attempt never ended")


async def test_an_attempt_goes_through_its_steps_in_order(stand: Stand) -> None:
    steps = Steps()
    engine = stand.engine(steps)
    async with engine.running():
        assert await engine.start("run", 1)
        assert await steps.wait() == ["prepare", "submit", "follow", "collect"]


async def test_a_step_that_says_stop_ends_the_attempt(stand: Stand) -> None:
    steps = Steps()
    steps.special["submit"] = lambda: _answer(Go.STOP)
    engine = stand.engine(steps)
    async with engine.running():
        await engine.start("run", 1)
        assert await steps.wait() == ["prepare", "submit"]
        await ended(engine)
    assert steps.asked == ["prepare", "submit"]


async def test_a_step_that_raises_makes_the_engine_give_the_run_up(stand: Stand) -> None:
    steps = Steps()
    steps.special["follow"] = _raise
    engine = stand.engine(steps)
    async with engine.running():
        await engine.start("run", 1)
        asked = await steps.wait()
    assert asked == ["prepare", "submit", "follow", "give up: RuntimeError: bad day"]


async def test_starting_an_attempt_twice_runs_it_once(stand: Stand) -> None:
    steps = Steps()
    engine = stand.engine(steps)
    async with engine.running():
        await asyncio.gather(*(engine.start("run", 1) for _ in range(5)))
        await steps.wait()
        await ended(engine)
    assert steps.asked == ["prepare", "submit", "follow", "collect"]


async def test_an_attempt_that_is_over_is_not_started_again(stand: Stand) -> None:
    steps = Steps()
    engine = stand.engine(steps)
    async with engine.running():
        await engine.start("run", 1)
        await steps.wait()
        await ended(engine)
        assert not await engine.start("run", 1)
    assert steps.asked == ["prepare", "submit", "follow", "collect"]


async def test_a_stop_in_the_middle_of_a_step_is_no_outcome_and_a_restart_goes_on(
    stand: Stand,
) -> None:
    first, in_follow = Steps(), asyncio.Event()

    async def wait_for_ever() -> Go:
        in_follow.set()
        await asyncio.Event().wait()
        return Go.ON

    first.special["follow"] = wait_for_ever
    engine = stand.engine(first)
    async with engine.running():
        await engine.start("run", 1)
        await asyncio.wait_for(in_follow.wait(), WAIT_SECONDS)
    second = Steps()
    async with stand.engine(second).running():
        assert await second.wait() == ["follow", "collect"]


async def test_an_attempt_whose_end_cannot_be_recorded_is_over_all_the_same(
    tmp_path: Path,
) -> None:
    steps, file = Steps(), tmp_path / "engine.db"
    stand = Stand(sync_engine(file))
    refusing = asyncio.Event()

    async def submit() -> Go:
        refusing.set()
        return refuse_records(file, refuse=True)

    steps.special["submit"] = submit
    engine = stand.engine(steps)
    async with engine.running():
        await engine.start("run", 1)
        await asyncio.wait_for(refusing.wait(), WAIT_SECONDS)
        await asyncio.sleep(0.2)  # DBOS has tried to record that, too
        refuse_records(file, refuse=False)
        await ended(engine)
    stand.database.dispose()
    assert steps.asked == ["prepare", "submit"]


def refuse_records(file: Path, *, refuse: bool) -> Go:
    """Fail what DBOS writes at the end of a step or an attempt, as a full disk does."""
    verb = (
        "CREATE TRIGGER no_{0} BEFORE {1} ON {0} BEGIN SELECT json('{{'); END"
        if refuse
        else "DROP TRIGGER no_{0}"
    )
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(verb.format("operation_outputs", "INSERT"))
        connection.execute(verb.format("workflow_status", "UPDATE"))
    return Go.ON


async def _lose() -> Go:
    raise DBOSWorkflowConflictIDError("run/1")  # what a record says that has lost its owner


async def _fail_to_record() -> Go:
    raise sa.exc.OperationalError("insert", {}, Exception("read-only"))


@pytest.mark.parametrize("trouble", [_lose, _fail_to_record])
async def test_an_attempt_that_dbos_breaks_off_is_over_and_the_run_is_not_given_up(
    stand: Stand, trouble: Callable[[], Awaitable[Go]]
) -> None:
    steps = Steps()
    steps.special["follow"] = trouble
    engine = stand.engine(steps)
    async with engine.running():
        assert await engine.start("run", 1)
        await ended(engine)
    assert steps.asked == ["prepare", "submit", "follow"]


async def test_an_attempt_whose_end_the_database_has_lost_is_over(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = postgres.sync_engine(postgres_url)
    stand = Stand(database, postgres.ENGINE_SCHEMA)
    steps = Steps()
    engine = stand.engine(steps)
    async with engine.running():
        await engine.start("run", 1)
        await steps.wait()
        await ended(engine)
        with database.begin() as connection:  # as a copy without the last commits has it
            connection.execute(
                sa.text(
                    "update atelier_dbos.workflow_status set status = 'PENDING', owner_xid = 'gone'"
                )
            )
        assert await engine.start("run", 1)
        monkeypatch.setattr("sidecar.engine.dbos.RECORDED_SECONDS", 0.0)
        assert not await engine.start("run", 1)
    database.dispose()


async def test_of_two_on_one_database_each_recovers_its_own(postgres_url: str) -> None:
    database = postgres.sync_engine(postgres_url)
    mine, theirs, in_follow = Steps(), Steps(), asyncio.Event()

    async def wait_for_ever() -> Go:
        in_follow.set()
        await asyncio.Event().wait()
        return Go.ON

    mine.special["follow"] = wait_for_ever

    def engine(steps: Steps, name: str) -> DbosEngine:
        return DbosEngine(steps, database, executor_id=name, schema=postgres.ENGINE_SCHEMA)

    first = engine(mine, "mine")
    async with first.running():
        await first.start("run", 1)
        await asyncio.wait_for(in_follow.wait(), WAIT_SECONDS)
    with database.begin() as connection:  # as its recovery does, for whoever is first
        connection.execute(
            sa.text(
                "update atelier_dbos.workflow_status"
                " set status = 'ENQUEUED', owner_xid = null, queue_name = :queue"
            ),
            {"queue": INTERNAL_QUEUE_NAME},
        )
    async with engine(theirs, "theirs").running():
        await asyncio.sleep(2.5)  # DBOS looks every second for what it may take
    again = Steps()
    async with engine(again, "mine").running():
        assert await again.wait() == ["follow", "collect"]
    assert theirs.asked == []
    database.dispose()


async def test_ended_attempts_are_forgotten_after_a_while(stand: Stand) -> None:
    steps = Steps()
    engine = stand.engine(steps)
    async with engine.running():
        await engine.start("run", 1)
        await steps.wait()
        await ended(engine)
        assert await engine.forget(3600) == 0
        assert await engine.forget(-3600) == 1
        assert await engine.forget(-3600) == 0


async def _answer(go: Go) -> Go:
    return go


async def _raise() -> Go:
    raise RuntimeError("bad day")

"""The limit of unfinished runs holds however many are submitted at the same moment."""

import asyncio
from uuid import uuid4

import pytest
from clock import FakeClock
from some_runs import some_run

from sidecar.database import Database
from sidecar.errors import QuotaError
from sidecar.principal import Principal
from sidecar.runs.feed import RunFeed
from sidecar.runs.journal import RunJournal
from sidecar.runs.models import Status
from sidecar.runs.store import RunStore

ANNA, BOB = Principal(uuid4()), Principal(uuid4())
LIMIT = 5


@pytest.fixture
def journal(database: Database, clock: FakeClock) -> RunJournal:
    """The journal on each database."""
    return RunJournal(database, RunFeed(), clock, lambda: None)


async def unfinished(database: Database, who: Principal) -> int:
    async with database.transaction(who, read_only=True) as tx:
        return await RunStore(tx).count_unfinished()


async def test_submits_at_the_same_moment_do_not_pass_the_limit(
    database: Database, journal: RunJournal, clock: FakeClock
) -> None:
    answers = await asyncio.gather(
        *(
            journal.add(some_run(clock.now(), who.id), max_unfinished=LIMIT)
            for _ in range(3 * LIMIT)
            for who in (ANNA, BOB)
        ),
        return_exceptions=True,
    )
    refused = [answer for answer in answers if answer is not None]
    assert {type(answer) for answer in refused} == {QuotaError}
    assert len(refused) == 2 * 2 * LIMIT
    assert [await unfinished(database, who) for who in (ANNA, BOB)] == [LIMIT, LIMIT]


async def test_finished_runs_take_no_place(
    database: Database, journal: RunJournal, clock: FakeClock
) -> None:
    for _ in range(LIMIT):
        ended = some_run(clock.now(), ANNA.id, status=Status.SUCCEEDED)
        await journal.add(ended, max_unfinished=LIMIT)
    await journal.add(some_run(clock.now(), ANNA.id), max_unfinished=1)
    with pytest.raises(QuotaError) as refused:
        await journal.add(some_run(clock.now(), ANNA.id), max_unfinished=1)
    assert refused.value.details == {"retry_after": 30, "max_unfinished": 1}
    assert await unfinished(database, ANNA) == 1


async def test_without_a_limit_there_is_none(
    database: Database, journal: RunJournal, clock: FakeClock
) -> None:
    for _ in range(LIMIT):
        await journal.add(some_run(clock.now(), ANNA.id))
    assert await unfinished(database, ANNA) == LIMIT

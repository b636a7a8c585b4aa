"""Waiting for what is away, and letting go of a run that has ended."""

import asyncio
from uuid import UUID, uuid4

import pytest

from sidecar.errors import InvalidError, UnavailableError, UpstreamError
from sidecar.runs.feed import RunFeed
from sidecar.runs.patience import Patience, RunEndedError

RUN = uuid4()
AWAY = UnavailableError("comfyui", "away")


class Ending:
    """Whether the run has ended."""

    def __init__(self) -> None:
        self.ended = False

    async def __call__(self, _run_id: UUID) -> bool:
        return self.ended


class Flaky:
    """Fails so many times before it works."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "there"


async def test_what_is_away_for_a_moment_is_asked_again() -> None:
    call = Flaky(2, AWAY)
    assert await Patience(RunFeed(), Ending(), 10).repeat(RUN, call) == "there"
    assert call.calls == 3


async def test_what_stays_away_is_given_up_with_its_own_error() -> None:
    with pytest.raises(UnavailableError):
        await Patience(RunFeed(), Ending(), 0.5).repeat(RUN, Flaky(100, AWAY))


@pytest.mark.parametrize("error", [InvalidError("no", "no"), UpstreamError("blobs", "wrong bytes")])
async def test_what_will_never_work_is_not_asked_again(error: Exception) -> None:
    call = Flaky(1, error)
    with pytest.raises(type(error)):
        await Patience(RunFeed(), Ending(), 10).repeat(RUN, call)
    assert call.calls == 1


async def test_work_stops_as_soon_as_the_run_has_ended() -> None:
    feed, ending, stopped = RunFeed(), Ending(), asyncio.Event()

    async def long_fetch() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    working = asyncio.create_task(Patience(feed, ending, 10).while_running(RUN, long_fetch()))
    await asyncio.sleep(0)
    feed.changed(RUN)  # progress, say: no reason to stop
    await asyncio.sleep(0.05)
    assert not working.done()
    ending.ended = True
    feed.changed(RUN)
    with pytest.raises(RunEndedError):
        await working
    assert stopped.is_set()


async def test_a_run_that_had_ended_before_is_not_worked_on() -> None:
    ending = Ending()
    ending.ended = True
    with pytest.raises(RunEndedError):
        await Patience(RunFeed(), ending, 10).while_running(RUN, asyncio.sleep(10))


async def test_an_error_of_the_work_comes_through() -> None:
    with pytest.raises(UnavailableError):
        await Patience(RunFeed(), Ending(), 0).while_running(RUN, Flaky(1, AWAY)())

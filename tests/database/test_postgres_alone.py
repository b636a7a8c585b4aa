"""Working alone on Postgres: one at a time, in every process, directly and behind a pooler."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from databases import opened

from sidecar.database import Database
from sidecar.database.postgres import PostgresDatabase, Waits
from sidecar.errors import UnavailableError
from sidecar.principal import Principal

ANN, BOB = Principal(UUID(int=1)), Principal(UUID(int=2))
HOLDS = """
import asyncio, sys
from uuid import UUID
from sidecar.database.postgres import opened
from sidecar.principal import Principal

async def hold():
    async with opened(sys.argv[1]) as database, database.alone(Principal(UUID(int=1)), "loras"):
        print("held", flush=True)
        await asyncio.sleep(3600)

asyncio.run(hold())
"""


@asynccontextmanager
async def held(database: Database, who: Principal, what: str) -> AsyncIterator[asyncio.Task[None]]:
    """Somebody who is alone until the task is cancelled."""
    inside = asyncio.Event()

    async def hold() -> None:
        async with database.alone(who, what):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await inside.wait()
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_two_sidecars_are_never_at_the_same_thing_at_once(url: str) -> None:
    inside = most = 0

    async def work(database: PostgresDatabase) -> None:
        nonlocal inside, most
        async with database.alone(ANN, "loras"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.01)
            inside -= 1

    async with opened(url) as one, opened(url) as other:
        await asyncio.gather(*(work(each) for each in (one, other) * 8))
    assert most == 1


async def test_other_people_and_other_things_do_not_wait(url: str) -> None:
    async with (
        opened(url) as one,
        opened(url) as other,
        held(one, ANN, "loras"),
        other.alone(BOB, "loras"),
        other.alone(ANN, "workflows"),
    ):
        pass


async def test_more_things_than_lock_connections_are_all_done(shared: PostgresDatabase) -> None:
    done: list[int] = []

    async def work(number: int) -> None:
        async with shared.alone(ANN, f"thing {number}"):
            done.append(number)

    await asyncio.gather(*(work(number) for number in range(20)))
    assert sorted(done) == list(range(20))


async def test_whoever_waits_too_long_is_told_so(url: str) -> None:
    async with (
        opened(url) as one,
        opened(url, waits=Waits(lock=0.2)) as other,
        held(one, ANN, "loras"),
    ):
        with pytest.raises(UnavailableError):
            async with other.alone(ANN, "loras"):
                pass


async def test_whoever_stops_waiting_leaves_nothing_behind(url: str) -> None:
    async with opened(url) as one, opened(url) as other:
        async with held(one, ANN, "loras"):
            waiting = asyncio.create_task(_pass_through(other))
            await asyncio.sleep(0.1)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await _pass_through(other)
        await _pass_through(one)


async def test_a_killed_process_is_alone_no_longer(url: str) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDS, url, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    assert (await child.stdout.readline()).strip() == b"held"
    async with opened(url) as database:
        waiting = asyncio.create_task(_pass_through(database))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        child.kill()
        await child.wait()
        await waiting


async def _pass_through(database: Database) -> None:
    async with database.alone(ANN, "loras"):
        pass

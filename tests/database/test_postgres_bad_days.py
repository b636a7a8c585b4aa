"""A Postgres that crashes, hangs, is full or only follows: said as such, and over when it is over.

The pool is the same all the time: nothing here needs a restart of the sidecar.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from uuid import UUID

import psycopg
import pytest
import sqlalchemy as sa
from databases import TEMPLATE, PostgresStudios, opened
from postgres_server import PostgresServer
from waiting import until
from workflow_rows import add_workflow, owners_seen, workflow_row

from sidecar.database.postgres import PostgresDatabase, Waits
from sidecar.database.tables import workflows
from sidecar.errors import StorageFullError, UnavailableError
from sidecar.principal import Principal

ANN = Principal(UUID(int=1))
SHORT = Waits(connect=2, pool=0.3, answer=0.5)
USABLE_CONNECTIONS = 20
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="finds the backends in /proc")


@pytest.fixture(scope="module")
def own() -> Iterator[PostgresStudios]:
    """A server for this file alone, which its tests stop and freeze."""
    server = PostgresServer(
        max_connections=str(USABLE_CONNECTIONS + 3), superuser_reserved_connections="3"
    )
    try:
        server.start()
        yield PostgresStudios(server)
    finally:
        server.stop()


@pytest.fixture
async def database(own: PostgresStudios) -> AsyncIterator[PostgresDatabase]:
    """A database on it, through a pool with some connections that were used already."""
    name = own.new()
    async with opened(own.url(name), waits=SHORT) as made:
        await asyncio.gather(*(owners_seen(made, ANN) for _ in range(8)))
        yield made
    own.server.drop_database(name)


async def assert_it_works(database: PostgresDatabase) -> None:
    """Writing and reading, at once: no leftover of the bad day is handed to anybody."""
    await add_workflow(database, ANN, name="after")
    assert await owners_seen(database, ANN) == {ANN.id}
    await asyncio.gather(*(owners_seen(database, ANN) for _ in range(12)))
    async with database.alone(ANN, "loras"):
        pass


async def test_a_crashed_server_is_away_and_comes_back_to_the_same_pool(
    own: PostgresStudios, database: PostgresDatabase
) -> None:
    own.server.halt()
    for _ in range(3):
        with pytest.raises(UnavailableError, match="cannot be used"):
            await add_workflow(database, ANN)
    with pytest.raises(UnavailableError):
        await database.check()
    with pytest.raises(UnavailableError):
        async with database.alone(ANN, "loras"):
            pass
    assert own.server.resume()
    await assert_it_works(database)


async def test_a_server_that_restarts_between_two_requests_is_not_noticed(
    own: PostgresStudios, database: PostgresDatabase
) -> None:
    own.server.halt()
    assert own.server.resume()
    await assert_it_works(database)


@pytest.mark.parametrize("how", ["SIGINT", "SIGQUIT"])
async def test_a_transaction_that_the_server_ends_is_lost_as_a_whole(
    own: PostgresStudios, database: PostgresDatabase, how: str
) -> None:
    async def begin() -> None:
        async with database.transaction(ANN) as tx:
            await tx.execute(workflows.insert().values(workflow_row(ANN.id)))
            own.server.halt(signal.Signals[how])
            await tx.execute(sa.select(workflows))

    with pytest.raises(UnavailableError):
        await begin()
    assert own.server.resume()
    assert await owners_seen(database, ANN) == set()
    await assert_it_works(database)


@needs_proc
async def test_a_server_that_hangs_is_waited_for_so_long_and_no_longer(
    own: PostgresStudios, database: PostgresDatabase
) -> None:
    own.server.freeze()
    try:
        with pytest.raises(UnavailableError):
            await add_workflow(database, ANN)
        with pytest.raises(UnavailableError):
            async with database.alone(ANN, "loras"):
                pass
    finally:
        own.server.thaw()
    await assert_it_works(database)


@needs_proc
async def test_a_server_that_hangs_in_the_middle_of_a_transaction_ends_it(
    own: PostgresStudios, database: PostgresDatabase
) -> None:
    async def begin() -> None:
        async with database.transaction(ANN) as tx:
            await tx.execute(workflows.insert().values(workflow_row(ANN.id)))
            own.server.freeze()

    try:
        with pytest.raises(UnavailableError):
            await begin()  # the commit
    finally:
        own.server.thaw()
    await add_workflow(database, ANN, name="another")
    assert await owners_seen(database, ANN) == {ANN.id}


async def test_a_server_that_goes_on_talking_is_listened_to_for_longer(
    database: PostgresDatabase,
) -> None:
    async with database.transaction(ANN) as tx:
        slow = sa.text("select repeat('x', 100000), pg_sleep(0.2) from generate_series(1, 6)")
        assert len((await tx.execute(slow)).all()) == 6


@needs_proc
async def test_a_request_to_a_server_that_hangs_can_be_cancelled(
    own: PostgresStudios, database: PostgresDatabase
) -> None:
    own.server.freeze()
    try:
        task = asyncio.create_task(add_workflow(database, ANN))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    finally:
        own.server.thaw()
    assert task.cancelled()
    await assert_it_works(database)


async def test_a_server_without_a_free_connection_is_away_until_it_has_one(
    own: PostgresStudios, database: PostgresDatabase
) -> None:
    async with AsyncExitStack() as taken:
        for _ in range(USABLE_CONNECTIONS - 8):
            connection = await psycopg.AsyncConnection.connect(own.url(TEMPLATE))
            await taken.enter_async_context(connection)
        ends = await asyncio.gather(*(_stay(database) for _ in range(12)), return_exceptions=True)
        assert {type(each) for each in ends} == {type(None), UnavailableError}
    await until(lambda: _is_usable(database))
    await assert_it_works(database)


async def _stay(database: PostgresDatabase) -> None:
    async with database.transaction(ANN) as tx:
        await tx.execute(sa.text("select pg_sleep(0.3)"))


async def _is_usable(database: PostgresDatabase) -> bool:
    """The server takes a moment to let go of connections that were closed."""
    try:
        await asyncio.gather(*(_stay(database) for _ in range(12)))
    except UnavailableError:
        return False
    return True


async def test_an_exhausted_pool_is_said_and_fills_again(database: PostgresDatabase) -> None:
    async with AsyncExitStack() as held:
        for _ in range(15):
            await held.enter_async_context(database.transaction(ANN, read_only=True))
        with pytest.raises(UnavailableError, match="no connection free"):
            await owners_seen(database, ANN)
    await assert_it_works(database)


async def test_a_server_that_is_read_only_is_read_and_not_written(
    own: PostgresStudios, database: PostgresDatabase
) -> None:
    await add_workflow(database, ANN)
    own.server.psql("alter system set default_transaction_read_only = on")
    own.server.psql("select pg_reload_conf()")
    try:
        await until(lambda: _refuses(database))
        assert await owners_seen(database, ANN) == {ANN.id}
    finally:
        own.server.psql("alter system reset default_transaction_read_only")
        own.server.psql("select pg_reload_conf()")
    await until(lambda: _is_written(database))
    await assert_it_works(database)


async def _refuses(database: PostgresDatabase) -> bool:
    """A backend reads its configuration anew in its own time."""
    try:
        async with database.transaction(ANN) as tx:
            await tx.execute(workflows.update().values(name="changed"))
    except UnavailableError:
        return True
    return False


async def _is_written(database: PostgresDatabase) -> bool:
    return not await _refuses(database)


async def test_a_standby_is_read_and_when_it_is_promoted_written(
    own: PostgresStudios, database: PostgresDatabase
) -> None:
    await add_workflow(database, ANN)
    own.server.become_standby()
    try:
        assert await owners_seen(database, ANN) == {ANN.id}
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await add_workflow(database, ANN, name="new")
    finally:
        own.server.psql("select pg_promote()")
    await assert_it_works(database)


async def test_a_connection_to_who_only_follows_by_now_is_given_up_for_a_new_one(
    own: PostgresStudios,
) -> None:
    name = own.new()
    of_new_connections = f"alter role atelier_app in database {name}"
    own.server.psql(f"{of_new_connections} set default_transaction_read_only = on")
    async with opened(own.url(name), waits=SHORT) as database:
        assert await owners_seen(database, ANN) == set()
        own.server.psql(f"{of_new_connections} reset default_transaction_read_only")
        with pytest.raises(UnavailableError):
            await add_workflow(database, ANN)
        await assert_it_works(database)
    own.server.drop_database(name)


async def test_a_full_disk_is_said_as_such(database: PostgresDatabase) -> None:
    full = "do $$ begin raise exception 'could not extend file' using errcode = '53100'; end $$"
    with pytest.raises(StorageFullError, match="disk of the database"):
        async with database.transaction(ANN) as tx:
            await tx.execute(sa.text(full))
    await assert_it_works(database)


async def test_a_connection_that_an_administrator_ends_costs_one_request(
    own: PostgresStudios, database: PostgresDatabase
) -> None:
    async def ended() -> None:
        async with database.transaction(ANN) as tx:
            pid = (await tx.execute(sa.text("select pg_backend_pid()"))).scalar_one()
            own.server.psql(f"select pg_terminate_backend({pid}, 5000)")
            await tx.execute(sa.select(workflows))

    with pytest.raises(UnavailableError):
        await ended()
    own.server.psql(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'atelier_app'"
    )
    await assert_it_works(database)

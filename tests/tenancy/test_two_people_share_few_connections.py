"""A connection that served one person serves the next as if it had never served anybody."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from uuid import UUID

import pytest
import sqlalchemy as sa
from databases import PostgresStudios
from interrogated import Told, Walls
from sqlalchemy.ext.asyncio import create_async_engine

from sidecar.database.postgres import PostgresDatabase, Waits, parse_url
from sidecar.database.tables import metadata
from sidecar.principal import SYSTEM, Principal

pytestmark = pytest.mark.timeout(180)

OWNED = [table for table in metadata.tables.values() if "owner_id" in table.c]


class _OnPurposeError(Exception):
    """Ends a transaction half way."""


@pytest.fixture
def told(interrogated: Callable[[Walls], Told]) -> Told:
    """A studio in which two people have worked."""
    return interrogated(Walls.POSTGRES)


@pytest.fixture
async def narrow(told: Told, postgres: PostgresStudios) -> AsyncIterator[PostgresDatabase]:
    """Its database, over two connections."""
    url = parse_url(postgres.url(told.database))
    rows = create_async_engine(url, pool_size=2, max_overflow=0, pool_timeout=60)
    locks = create_async_engine(url, poolclass=sa.NullPool)
    yield PostgresDatabase(rows, locks, Waits())
    await rows.dispose()
    await locks.dispose()


async def test_two_hundred_transactions_in_turn_each_see_their_own_rows_alone(
    told: Told, narrow: PostgresDatabase
) -> None:
    people = [Principal(UUID(each.account)) for each in (told.ann, told.ben)]
    seen: dict[UUID, set[UUID]] = {person.id: set() for person in people}

    async def look(number: int) -> None:
        person, table = people[number % 2], OWNED[number // 2 % len(OWNED)]
        with suppress(_OnPurposeError, sa.exc.DBAPIError):
            async with narrow.transaction(person, read_only=number % 3 == 0) as tx:
                found = await tx.execute(sa.select(table.c.owner_id))
                seen[person.id].update(found.scalars())
                if number % 5 == 0:
                    raise _OnPurposeError
                if number % 7 == 0:
                    await tx.connection.exec_driver_sql("select 1 / 0")
        if number % 11 == 0:
            async with narrow.transaction(SYSTEM) as tx:
                await tx.connection.exec_driver_sql("select count(owner_id) from sessions")

    async def cut_short(number: int) -> None:
        task = asyncio.create_task(look(number))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})

    every_ninth = (cut_short(n) if n % 9 == 0 else look(n) for n in range(200))
    await asyncio.gather(*every_ninth)
    assert seen == {person.id: {person.id} for person in people}


async def test_a_connection_that_is_given_back_has_no_rights_left(
    told: Told, narrow: PostgresDatabase
) -> None:
    async with narrow.transaction(Principal(UUID(told.ann.account))) as tx:
        await tx.execute(sa.select(OWNED[0].c.owner_id))
    async with narrow.as_login() as connection:
        left = sa.text("select current_setting('request.jwt.claims', true), current_user")
        claims, role = (await connection.execute(left)).one()
        assert (claims or "", role) == ("", "atelier_app")
        with pytest.raises(sa.exc.ProgrammingError):
            await connection.execute(sa.text("select count(*) from atelier.comfyui_workflows"))

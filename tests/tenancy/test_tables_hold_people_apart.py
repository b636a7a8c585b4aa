"""Row-level security alone, in SQL: every table, as the sidecar's own role with somebody's claims.

Whoever can write SQL of their own can also take other claims, or the role of the jobs across
accounts: this is no wall against injected SQL, but against every statement of ours that forgot
whose rows it is about.
"""

from collections.abc import AsyncIterator, Callable
from uuid import UUID

import pytest
import sqlalchemy as sa
from databases import PostgresStudios, opened
from interrogated import Told, Walls
from rows_of_another import DENIED, Intruder, Outcome, places
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from sidecar.database.postgres import PostgresDatabase
from sidecar.database.tables import metadata
from sidecar.principal import SYSTEM, Principal

pytestmark = pytest.mark.timeout(180)

EVERY_TABLE = pytest.mark.parametrize("name", sorted(metadata.tables))
BOOKKEEPING = {
    "comfyui_workflows": {"id", "owner_id", "deleted_at"},
    "comfyui_workflow_versions": set(),
    "comfyui_lora_models": {"id", "owner_id", "head_version"},
    "comfyui_lora_versions": {"lora_id", "owner_id", "bytes", "state"},
    "comfyui_lora_shares": set(),
    "uploads": {"id", "owner_id", "worker_id", "state", "length", "expires_at"},
    "comfyui_workflow_runs": {
        *("id", "owner_id", "source", "status", "worker_id", "attempts", "loras"),
        *("created_at", "started_at", "finished_at"),
    },
    "comfyui_run_events": {"run_id", "seq", "owner_id", "at"},
}
"""All that the jobs across accounts read of what people make: no prompt, no output, and no name but
those of the LoRAs that runs need, which are not to be removed."""


class Opened:
    """A database in which two people have worked, and what stands in each table of it."""

    def __init__(self, told: Told, postgres: PostgresStudios) -> None:
        self.url = postgres.url(told.database)
        self.admin_url = sa.make_url(postgres.admin_url(told.database)).set(
            drivername="postgresql+psycopg"
        )
        self.ben = Principal(UUID(told.ben.account))
        search = {"options": "-csearch_path=atelier"}
        admin = sa.create_engine(self.admin_url, poolclass=sa.NullPool, connect_args=search)
        self.places = places(admin, self.ben.id, UUID(told.ann.account))


@pytest.fixture(scope="module")
def lived_in(interrogated: Callable[[Walls], Told], postgres: PostgresStudios) -> Opened:
    """The studio on Postgres, closed."""
    return Opened(interrogated(Walls.POSTGRES), postgres)


@pytest.fixture
async def database(lived_in: Opened) -> AsyncIterator[PostgresDatabase]:
    """As the sidecar connects to it."""
    async with opened(lived_in.url) as made:
        yield made


@pytest.fixture
async def unbound(lived_in: Opened) -> AsyncIterator[AsyncConnection]:
    """A transaction of the owner that is rolled back; every role has been given all rights."""
    engine = create_async_engine(lived_in.admin_url, poolclass=sa.NullPool)
    async with engine.connect() as connection:
        await connection.exec_driver_sql("set local search_path = atelier")
        await connection.exec_driver_sql(
            "grant all on all tables in schema atelier to authenticated"
        )
        yield connection
        await connection.rollback()
    await engine.dispose()


@EVERY_TABLE
async def test_nothing_in_sql_gets_at_anothers_rows(
    lived_in: Opened, database: PostgresDatabase, name: str
) -> None:
    async with database.transaction(lived_in.ben) as tx:
        assert await Intruder(tx.connection, lived_in.places[name]).try_everything() == []


@EVERY_TABLE
async def test_the_policies_hold_though_every_right_is_granted(
    lived_in: Opened, database: PostgresDatabase, unbound: AsyncConnection, name: str
) -> None:
    await database.become(unbound, lived_in.ben)
    intruder = Intruder(unbound, lived_in.places[name], by_grants=False)
    assert await intruder.try_everything() == []


@pytest.mark.parametrize("name", sorted(metadata.tables))
async def test_every_policy_that_lets_all_through_is_found(
    lived_in: Opened, database: PostgresDatabase, unbound: AsyncConnection, name: str
) -> None:
    found = await unbound.exec_driver_sql(
        "select policyname, cmd from pg_policies where tablename = %s"
        " and 'authenticated' = any (roles)",
        (name,),
    )
    holes = [f"alter table {name} disable row level security"]
    for policy, command in found.all():
        if command != "INSERT":
            holes.append(f"alter policy {policy} on {name} using (true)")
        if command in ("INSERT", "UPDATE"):
            holes.append(f"alter policy {policy} on {name} with check (true)")
    assert len(holes) > 1
    for hole in holes:
        made = await unbound.begin_nested()
        await unbound.exec_driver_sql(hole)
        await database.become(unbound, lived_in.ben)
        intruder = Intruder(unbound, lived_in.places[name], by_grants=False)
        assert await intruder.try_everything(stop_at_first=True) != [], hole
        await made.rollback()


async def test_whoever_is_in_a_transaction_takes_no_role_of_the_owner(
    lived_in: Opened, database: PostgresDatabase
) -> None:
    async with database.transaction(lived_in.ben) as tx:
        intruder = Intruder(tx.connection, lived_in.places["sessions"])
        for statement in (
            "set local role postgres",
            "set session authorization postgres",
            "alter role authenticated bypassrls",
            "create schema peek",
            "create function atelier.peek() returns int language sql as 'select 1'",
            "create or replace function auth.uid() returns uuid language sql as 'select null'",
        ):
            assert await intruder.tried(statement) == Outcome(code=DENIED), statement


@pytest.mark.parametrize("name", sorted(BOOKKEEPING))
async def test_the_jobs_across_accounts_read_nothing_that_people_made(
    lived_in: Opened, database: PostgresDatabase, name: str
) -> None:
    place = lived_in.places[name]
    async with database.transaction(SYSTEM) as tx:
        intruder = Intruder(tx.connection, place)
        read = {
            column.name
            for column in place.table.c
            if await intruder.tried(sa.select(column)) != Outcome(code=DENIED)
        }
    assert read == BOOKKEEPING[name]


def test_every_table_of_what_people_make_is_kept_from_the_jobs_across_accounts() -> None:
    made = {name for name in metadata.tables if name.startswith("comfyui_")} | {"uploads"}
    assert made == BOOKKEEPING.keys()

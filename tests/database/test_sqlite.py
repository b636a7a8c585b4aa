"""The database port on SQLite: transactions, migrations, one process per file."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from clock import FakeClock

from sidecar.database.migrations import migrate
from sidecar.database.sqlite import SqliteDatabase, only_process, sync_engine
from sidecar.database.tables import metadata, workflows
from sidecar.errors import ConflictError
from sidecar.principal import LOCAL


def test_the_migrations_make_the_tables_that_the_code_names(database_file: Path) -> None:
    engine = sync_engine(database_file)
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()
    assert differences == []


def test_migrating_twice_changes_nothing(database_file: Path) -> None:
    engine = sync_engine(database_file)
    migrate(engine)
    engine.dispose()


async def add_workflow(database: SqliteDatabase, clock: FakeClock, *, times: int = 1) -> None:
    """Insert one row so often; then fail, as a service may."""
    row = {"name": "x", "tags": [], "head_version": 1, "owner_id": LOCAL.id, "id": LOCAL.id}
    stamped = row | {"created_at": clock.now(), "updated_at": clock.now()}
    async with database.transaction(LOCAL) as tx:
        with tx.unique_or(ConflictError("name_taken", "taken")):
            for _ in range(times):
                await tx.execute(workflows.insert().values(stamped))
        raise RuntimeError


async def test_an_error_inside_a_transaction_undoes_it(
    database: SqliteDatabase, clock: FakeClock
) -> None:
    with pytest.raises(RuntimeError):
        await add_workflow(database, clock)
    async with database.transaction(LOCAL, read_only=True) as tx:
        count = (await tx.execute(sa.select(sa.func.count()).select_from(workflows))).scalar_one()
    assert count == 0


async def test_a_broken_unique_constraint_becomes_the_error_the_store_names(
    database: SqliteDatabase, clock: FakeClock
) -> None:
    with pytest.raises(ConflictError, match="taken"):
        await add_workflow(database, clock, times=2)


async def test_a_reader_does_not_wait_for_a_writer(database: SqliteDatabase) -> None:
    async with database.transaction(LOCAL), database.transaction(LOCAL, read_only=True) as tx:
        await tx.execute(sa.select(workflows))


def test_a_second_process_may_not_use_the_file(tmp_path: Path) -> None:
    with (
        only_process(tmp_path / "a.db"),
        pytest.raises(ConflictError, match="ATELIER_DATA_DIR"),
        only_process(tmp_path / "a.db"),
    ):
        pass


def test_the_engine_that_blocks_knows_milliseconds_whatever_sqlite_python_came_with(
    database_file: Path,
) -> None:
    engine = sync_engine(database_file)
    with engine.connect() as connection:
        now = connection.execute(sa.text("SELECT unixepoch('subsec') * 1000")).scalar_one()
    engine.dispose()
    assert now > 1_700_000_000_000

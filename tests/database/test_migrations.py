"""Migrations: killed half way, two at once, of another version, and refused; both databases."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from databases import APP_ROLE, PostgresStudios, migrated_file, opened
from pgbouncer import PgBouncer
from postgres_server import ADMIN
from repository import ROOT
from workflow_rows import workflow_row

from sidecar.database import migrations
from sidecar.database.migrations import (
    migrate,
    migrate_postgres,
    require_head,
    require_migrated,
    sql_for_postgres,
    standing,
)
from sidecar.database.row_security import holes
from sidecar.database.sqlite import sync_engine
from sidecar.database.tables import metadata
from sidecar.errors import InvalidError, UnavailableError

OWNER = UUID(int=1)
MIGRATES = """
import os, signal, sys
from pathlib import Path
import sqlalchemy as sa
from sidecar.database.migrations import migrate, migrate_postgres
from sidecar.database.sqlite import sync_engine

killed_at, done = float(sys.argv[1]), 0

def count(*_):
    global done
    done += 1
    if done > killed_at:
        os.kill(os.getpid(), signal.SIGKILL)

sa.event.listen(sa.Engine, "before_cursor_execute", count)
sa.event.listen(sa.Engine, "commit", count)
if len(sys.argv) == 3:
    migrate(sync_engine(Path(sys.argv[2])))
else:
    migrate_postgres(*sys.argv[2:])
print(done)
"""


def migrating(*where: object, killed_at: float = float("inf")) -> "subprocess.Popen[bytes]":
    """A process that migrates; it dies before that many statements are done."""
    return subprocess.Popen(
        [sys.executable, "-c", MIGRATES, str(killed_at), *map(str, where)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def statements_of(child: "subprocess.Popen[bytes]") -> int:
    """How many it made, once it is done."""
    out, err = child.communicate()
    assert child.returncode == 0, err.decode()
    return int(out)


@pytest.fixture
def empty(postgres: PostgresStudios) -> Iterator[str]:
    """The name of an empty database."""
    name = postgres.empty()
    yield name
    postgres.server.drop_database(name)


@pytest.fixture
def transaction_pooler_urls(transaction_pooler: PgBouncer, empty: str) -> tuple[str, str]:
    """Admin's and sidecar's way to it through a pooler in transaction mode."""
    return transaction_pooler.url(empty, ADMIN), transaction_pooler.url(empty)


def revision_in(postgres: PostgresStudios, name: str) -> str:
    """Where a database is, asked as its owner."""
    return postgres.server.psql("select version_num from atelier.alembic_version", name)


def differences(postgres: PostgresStudios, name: str) -> list[Any]:
    """Between the tables of a database and those that the code names."""
    url = sa.make_url(postgres.admin_url(name)).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(
        url, connect_args={"options": "-c search_path=atelier"}, poolclass=sa.NullPool
    )
    with engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))


def test_the_migrations_make_the_tables_that_the_code_names(
    postgres: PostgresStudios, postgres_name: str
) -> None:
    assert differences(postgres, postgres_name) == []


def test_the_printed_sql_makes_the_same_tables(postgres: PostgresStudios, empty: str) -> None:
    postgres.server.psql(sql_for_postgres(APP_ROLE), empty)
    assert differences(postgres, empty) == []


def test_a_migration_that_is_killed_anywhere_is_completed_by_the_next(
    postgres: PostgresStudios, empty: str
) -> None:
    other = postgres.empty()
    whole = statements_of(migrating(postgres.admin_url(other), postgres.url(other)))
    postgres.server.drop_database(other)
    urls = postgres.admin_url(empty), postgres.url(empty)
    for killed_at in (5, whole // 3, whole // 2, whole - 1):  # the last is the commit
        with migrating(*urls, killed_at=killed_at) as child:
            child.wait()
        assert child.returncode != 0
        assert postgres.server.psql("select to_regnamespace('atelier')", empty) == ""
    assert statements_of(migrating(*urls)) == whole
    assert differences(postgres, empty) == []


@pytest.mark.parametrize("killed_at", [0, 3, 20, 40])
def test_a_killed_migration_of_a_file_is_completed_by_the_next(
    tmp_path: Path, killed_at: int
) -> None:
    file = tmp_path / "atelier.db"
    with migrating(file, killed_at=killed_at) as child:
        child.wait()
    assert child.returncode != 0
    engine = sync_engine(file)
    assert migrate(engine).found is None
    with engine.connect() as connection:
        require_head(connection)
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_two_that_migrate_at_once_both_succeed(postgres: PostgresStudios, empty: str) -> None:
    urls = postgres.admin_url(empty), postgres.url(empty)
    both = [migrating(*urls), migrating(*urls)]
    one, other = sorted(statements_of(each) for each in both)
    assert one < other  # who came second found it done
    assert differences(postgres, empty) == []


def test_two_that_migrate_at_once_behind_a_pooler_both_succeed(
    postgres: PostgresStudios, empty: str, transaction_pooler_urls: tuple[str, str]
) -> None:
    both = [migrating(*transaction_pooler_urls) for _ in range(2)]
    for each in both:
        statements_of(each)
    assert differences(postgres, empty) == []


def test_two_that_migrate_one_file_at_once_both_succeed(tmp_path: Path) -> None:
    both = [migrating(tmp_path / "atelier.db") for _ in range(2)]
    for each in both:
        statements_of(each)


async def test_a_database_of_a_newer_version_is_refused_by_name(
    postgres: PostgresStudios, postgres_name: str
) -> None:
    postgres.server.psql("update atelier.alembic_version set version_num = '9999'", postgres_name)
    with pytest.raises(InvalidError, match=r"9999.*newer one") as refused:
        migrate_postgres(postgres.admin_url(postgres_name), postgres.url(postgres_name))
    assert refused.value.code == "database_too_new"
    async with opened(postgres.url(postgres_name)) as database:
        with pytest.raises(InvalidError, match="9999"):
            await require_migrated(database)


def test_a_file_of_a_newer_version_is_refused_by_name(tmp_path: Path) -> None:
    engine = sync_engine(migrated_file(tmp_path))
    with engine.begin() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '9999'")
    with pytest.raises(InvalidError, match="9999"):
        migrate(engine)
    with engine.connect() as connection, pytest.raises(InvalidError, match="9999"):
        require_head(connection)
    engine.dispose()


async def test_the_sidecars_login_learns_where_its_database_is(
    postgres: PostgresStudios, postgres_name: str
) -> None:
    async with opened(postgres.url(postgres_name)) as database:
        assert (await require_migrated(database)).is_head
        postgres.server.psql(
            "update atelier.alembic_version set version_num = '0001'", postgres_name
        )
        with pytest.raises(InvalidError, match=r"revision 0001.*DATABASE_ADMIN_URL"):
            await require_migrated(database)


@pytest.mark.parametrize("login", [APP_ROLE, "stranger"])
async def test_a_login_that_nothing_was_prepared_for_is_told_to_migrate(
    postgres: PostgresStudios, empty: str, login: str
) -> None:
    postgres.server.psql("drop role if exists stranger; create role stranger login noinherit")
    async with opened(postgres.server.url(empty, login)) as database:
        with pytest.raises(InvalidError, match="revision none") as refused:
            await require_migrated(database)
    assert refused.value.code == "database_not_migrated"
    postgres.server.psql("drop role stranger")


async def test_a_login_that_does_not_exist_is_told_what_postgres_says(
    postgres: PostgresStudios, empty: str
) -> None:
    async with opened(postgres.server.url(empty, "nobody_at_all")) as database:
        with pytest.raises(UnavailableError, match='role "nobody_at_all" does not exist'):
            await require_migrated(database)


def test_what_was_stored_at_the_first_revision_is_there_after_all_others(
    postgres: PostgresStudios, empty: str, tmp_path: Path
) -> None:
    postgres.server.psql("create schema atelier", empty)
    url = sa.make_url(postgres.admin_url(empty)).set(drivername="postgresql+psycopg")
    on_postgres = sa.create_engine(
        url, connect_args={"options": "-c search_path=atelier"}, poolclass=sa.NullPool
    )
    on_sqlite = sync_engine(tmp_path / "atelier.db")
    for engine in (on_postgres, on_sqlite):
        first_revision_with_rows(engine)
    migrate_postgres(postgres.admin_url(empty), postgres.url(empty))
    migrate(on_sqlite)
    for engine in (on_postgres, on_sqlite):
        with engine.connect() as connection:
            require_head(connection)
            kept = connection.execute(sa.text("select note from comfyui_workflow_versions"))
            assert kept.scalars().all() == ["kept"]
        engine.dispose()


def first_revision_with_rows(engine: sa.Engine) -> None:
    """A studio as the first release made it, with one workflow."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    row = workflow_row(OWNER)
    version = {
        "workflow_id": row["id"],
        "version": 1,
        "owner_id": OWNER,
        "author_id": OWNER,
        "workflow_json": {},
        "inputs": [],
        "sha256": "",
        "note": "kept",
        "created_at": row["created_at"],
    }
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(as_it_was(connection, "comfyui_workflows").insert(), [row])
        connection.execute(as_it_was(connection, "comfyui_workflow_versions").insert(), [version])


def as_it_was(connection: sa.Connection, name: str) -> sa.Table:
    """The table as it stands, with today's types for the columns that it has."""
    there = {column["name"] for column in sa.inspect(connection).get_columns(name)}
    today = metadata.tables[name].c
    return sa.Table(
        name,
        sa.MetaData(),
        *(sa.Column(each.name, each.type) for each in today if each.name in there),
    )


def test_the_sidecars_login_may_not_be_who_migrates(postgres: PostgresStudios, empty: str) -> None:
    with pytest.raises(InvalidError, match="role of the sidecar's own"):
        migrate_postgres(postgres.admin_url(empty), postgres.admin_url(empty))


@pytest.mark.parametrize("login", ["a$do$b", "line\nbreak", "x" * 64])
def test_a_login_that_cannot_stand_in_sql_is_refused(login: str) -> None:
    with pytest.raises(InvalidError, match="printable"):
        sql_for_postgres(login)


async def test_a_login_with_a_strange_name_is_made(postgres: PostgresStudios, empty: str) -> None:
    url = sa.make_url(postgres.admin_url(empty)).set(username='It\'s "100%"')
    text = url.render_as_string(hide_password=False)
    for _ in range(2):
        migrate_postgres(postgres.admin_url(empty), text)
    async with opened(text) as database:
        assert await holes(database) == []
    postgres.server.drop_database(empty)
    postgres.server.psql('drop role "It\'s ""100%"""')


def test_who_may_not_make_roles_is_told_so_without_sql(
    postgres: PostgresStudios, empty: str
) -> None:
    postgres.server.psql("create role weak login")
    url = sa.make_url(postgres.admin_url(empty)).set(username="fresh_login", password="s3cret")
    with pytest.raises(InvalidError, match="permission denied to create role") as refused:
        migrate_postgres(
            postgres.server.url(empty, "weak"), url.render_as_string(hide_password=False)
        )
    assert refused.value.code == "migration_refused"
    assert "s3cret" not in refused.value.message
    postgres.server.psql("drop role weak")


def test_a_server_that_is_not_there_is_said_with_postgress_own_reason() -> None:
    nowhere = "postgresql://admin:s3cret@127.0.0.1:1/x"
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1") as away:
        migrate_postgres(nowhere, "postgresql://app@127.0.0.1:1/x")
    assert "s3cret" not in away.value.message


def test_printed_sql_is_refused_by_a_database_that_it_is_not_for(
    postgres: PostgresStudios, postgres_name: str
) -> None:
    with pytest.raises(AssertionError, match="there is a studio in this database already"):
        postgres.server.psql(sql_for_postgres(APP_ROLE), postgres_name)
    with pytest.raises(AssertionError, match="not at revision 0002"):
        postgres.server.psql(sql_for_postgres(APP_ROLE, "0002"), postgres_name)
    with pytest.raises(InvalidError, match="no revision '7777'"):
        sql_for_postgres(APP_ROLE, "7777")


def test_printed_sql_takes_a_database_on_from_where_it_is(
    postgres: PostgresStudios, empty: str
) -> None:
    whole = sql_for_postgres(APP_ROLE)
    until_two = whole.split("-- Running upgrade 0002 -> 0003")[0]
    postgres.server.psql(f"{until_two}; commit;", empty)
    assert revision_in(postgres, empty) == "0002"
    postgres.server.psql(sql_for_postgres(APP_ROLE, "0002"), empty)
    assert revision_in(postgres, empty) == standing_of_head()
    assert differences(postgres, empty) == []


def standing_of_head() -> str:
    """The revision of this version."""
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        return standing(connection).head

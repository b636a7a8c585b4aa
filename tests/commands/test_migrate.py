"""``migrate``: what it says, what it refuses, and the SQL that it prints."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import carried_out
from databases import APP_ROLE, HEAD, PostgresStudios, migrated_file
from repository import ROOT
from studio import drawing, settings_for
from studio import studio as running_studio

from sidecar.comfyui.stand_in import StandIn
from sidecar.commands import migrate
from sidecar.database.sqlite import only_process, sync_engine
from sidecar.errors import AtelierError, ConflictError, InvalidError


@pytest.fixture
def empty(postgres: PostgresStudios) -> Iterator[str]:
    """The name of an empty Postgres database."""
    name = postgres.empty()
    yield name
    postgres.server.drop_database(name)


def urls(postgres: PostgresStudios, name: str) -> dict[str, object]:
    """The environment for a Postgres database."""
    return {
        "DATABASE_URL": postgres.url(name),
        "DATABASE_ADMIN_URL": postgres.admin_url(name),
    }


async def test_a_file_is_made_and_then_left_as_it_is(tmp_path: Path) -> None:
    environment: dict[str, object] = {"ATELIER_DATA_DIR": tmp_path / "new" / "data"}
    code, said = await carried_out(migrate, "migrate", environment)
    assert (code, said) == (0, f"atelier.db held no studio, and is at revision {HEAD} now.\n")
    code, said = await carried_out(migrate, "migrate", environment)
    assert (code, said) == (0, f"atelier.db is at revision {HEAD} already.\n")


async def test_a_file_that_a_sidecar_holds_is_refused(tmp_path: Path) -> None:
    with (
        only_process(tmp_path / "atelier.db"),
        pytest.raises(ConflictError, match="Another sidecar already uses"),
    ):
        await carried_out(migrate, "migrate", {"ATELIER_DATA_DIR": tmp_path})
    assert not (tmp_path / "atelier.db").exists()


async def test_postgres_is_migrated_and_then_left_as_it_is(
    postgres: PostgresStudios, empty: str
) -> None:
    environment = urls(postgres, empty)
    code, said = await carried_out(migrate, "migrate", environment)
    assert (code, said) == (0, f"DATABASE_URL held no studio, and is at revision {HEAD} now.\n")
    code, said = await carried_out(migrate, "migrate", environment)
    assert (code, said) == (0, f"DATABASE_URL is at revision {HEAD} already.\n")


async def test_postgres_needs_somebody_who_may(postgres: PostgresStudios, empty: str) -> None:
    with pytest.raises(InvalidError, match=r"DATABASE_ADMIN_URL is not set.*--sql"):
        await carried_out(migrate, "migrate", {"DATABASE_URL": postgres.url(empty)})


@pytest.mark.parametrize("arguments", ["migrate --login x", "migrate --since 0001"])
async def test_what_belongs_to_the_sql_is_refused_without_it(
    tmp_path: Path, arguments: str
) -> None:
    with pytest.raises(InvalidError, match="belong to --sql"):
        await carried_out(migrate, arguments, {"ATELIER_DATA_DIR": tmp_path})


@pytest.mark.parametrize(
    ("arguments", "environment", "login"),
    [
        ("--login studio", {}, "studio"),
        ("", {"DATABASE_URL": "postgresql://studio:s3cret@db.example.org/postgres"}, "studio"),
        ("", {"DATABASE_URL": "postgresql://studio.ref:s3cret@pooler.example.org/x"}, "studio"),
        ("--login other", {"DATABASE_URL": "postgresql://studio@db.example.org/x"}, "other"),
    ],
)
async def test_the_printed_sql_knows_the_login_and_says_to_set_its_password(
    arguments: str, environment: dict[str, object], login: str
) -> None:
    code, sql = await carried_out(migrate, f"migrate --sql {arguments}", environment)
    assert code == 0
    assert f"--   alter role \"{login}\" password '...';" in sql
    assert f'create role "{login}" login noinherit;' in sql
    assert "s3cret" not in sql


@pytest.mark.parametrize(
    ("arguments", "said"),
    [("", "give --login NAME"), ("--login a$b", "dollar"), ("--login x --since 9", "revision '9'")],
)
async def test_sql_that_cannot_be_printed_is_refused(arguments: str, said: str) -> None:
    with pytest.raises(AtelierError, match=said):
        await carried_out(migrate, f"migrate --sql {arguments}", {})


async def test_a_sidecar_serves_from_what_the_printed_sql_made(
    postgres: PostgresStudios, empty: str, tmp_path: Path, served_stand_in: tuple[StandIn, str]
) -> None:
    _, sql = await carried_out(migrate, f"migrate --sql --login {APP_ROLE}", {})
    postgres.server.psql(sql, empty)
    settings = settings_for(tmp_path, served_stand_in[1], DATABASE_URL=postgres.url(empty))
    async with running_studio(settings) as studio:
        await studio.save(drawing())
        run = await studio.run(drawing(seed=7))
        assert (await studio.until(run["id"]))["status"] == "succeeded"


@pytest.mark.parametrize("arguments", [["migrate"], ["serve"]])
def test_a_database_of_a_newer_version_ends_a_command_with_one_line(
    tmp_path: Path, arguments: list[str]
) -> None:
    engine = sync_engine(migrated_file(tmp_path))
    with engine.begin() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '9999'")
    engine.dispose()
    environment = {"ATELIER_DATA_DIR": str(tmp_path), "ATELIER_PORT": "0", "PATH": os.defpath}
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == (
        "atelier: The database is at revision 9999, which this version does not know: it knows"
        f" {HEAD}. Use the version of Atelier that migrated it, or a newer one."
    )
    assert "Traceback" not in done.stderr

"""The database: there, of this version, and on Postgres closed to everybody but the owners."""

import asyncio
import sqlite3
from pathlib import Path

import sqlalchemy as sa

from ...database.migrations import Standing, require_migrated, standing
from ...database.postgres import PostgresDatabase, login_of, opened, parse_url
from ...database.row_security import holes, probe
from ...errors import AtelierError
from ...principal import SYSTEM
from ...settings import Settings
from .findings import Finding, fail, ok, warn

SUBJECT = "database"
_ROWS = "row-level security"
_ADMINS = sa.text("select count(*) from accounts where role = 'admin' and disabled_at is null")


async def check_database(settings: Settings) -> tuple[list[Finding], int | None]:
    """What was found, and how many admins there are; None where that cannot be asked."""
    if settings.postgres_url is None:
        return await asyncio.to_thread(_check_file, settings.database_file)
    try:
        async with opened(settings.postgres_url) as database:
            return await _check_postgres(database, login_of(parse_url(settings.postgres_url)))
    except AtelierError as error:
        return [fail(SUBJECT, error.message)], None


async def _check_postgres(
    database: PostgresDatabase, login: str
) -> tuple[list[Finding], int | None]:
    found = await require_migrated(database)
    async with database.as_login() as connection:
        version = (await connection.execute(sa.text("show server_version"))).scalar_one()
    findings = [
        ok(SUBJECT, f"Postgres {version}, at revision {found.found}, which is this version's.")
    ]
    ways_around = [*await holes(database), *await probe(database)]
    findings += [fail(_ROWS, f"{line}.") for line in ways_around]
    if not ways_around:
        findings.append(
            ok(_ROWS, f"It binds: {login} was refused another account's rows when it tried.")
        )
    async with database.transaction(SYSTEM, read_only=True) as tx:
        return findings, int((await tx.execute(_ADMINS)).scalar_one())


def _check_file(file: Path) -> tuple[list[Finding], int | None]:
    if not file.exists():
        return [ok(SUBJECT, f"{file} will be made by the first start.")], None
    # never made; and not read-only, which would leave the files beside it that reading needs
    address = f"{file.absolute().as_uri()}?mode=rw"
    engine = sa.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(address, uri=True),
        poolclass=sa.NullPool,
    )
    try:
        with engine.connect() as connection:
            found = standing(connection)
            admins = int(connection.execute(_ADMINS).scalar_one()) if found.is_head else None
    except sa.exc.DBAPIError as error:
        return [fail(SUBJECT, f"{file} cannot be read: {error.orig}.")], None
    return [_of_file(file, found)], admins


def _of_file(file: Path, found: Standing) -> Finding:
    if found.is_newer:
        return fail(
            SUBJECT,
            f"{file} is at revision {found.found}, which this version does not know: "
            f"it knows {found.head}.",
        )
    if not found.is_head:
        before = f"is at revision {found.found}" if found.found else "holds no studio"
        return warn(
            SUBJECT, f"{file} {before}; the next start or `migrate` takes it to {found.head}."
        )
    return ok(SUBJECT, f"{file} is at revision {found.found}, which is this version's.")

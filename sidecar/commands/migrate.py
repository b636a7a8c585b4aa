"""``migrate``: bring the database to this version's schema, or print the SQL that does."""

import argparse
import asyncio
from typing import TYPE_CHECKING, TextIO

from ..database.migrations import Standing, migrate, migrate_postgres, sql_for_postgres
from ..database.postgres import login_of, parse_url
from ..database.sqlite import only_process, sync_engine
from ..errors import InvalidError
from ..settings import Settings

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_to(commands: "Commands") -> None:
    """Add the command to the parser's."""
    parser = commands.add_parser(
        "migrate", help="bring the database to this version's schema; safe to repeat"
    )
    parser.add_argument(
        "--sql",
        action="store_true",
        help="print the SQL for Postgres instead, for the SQL editor of a hosted project",
    )
    parser.add_argument(
        "--login",
        metavar="NAME",
        help="with --sql: the sidecar's own role; none: the one of DATABASE_URL",
    )
    parser.add_argument(
        "--since",
        metavar="REVISION",
        help="with --sql: the revision that the database is at; none: it has no studio yet",
    )


async def run(asked: argparse.Namespace, settings: Settings, out: TextIO) -> int:
    """Do it, and say what was done in a line. AtelierError when it cannot be done."""
    if asked.sql:
        out.write(sql_for_postgres(_login(asked, settings), asked.since))
        return 0
    if asked.login is not None or asked.since is not None:
        raise InvalidError("invalid_arguments", "--login and --since belong to --sql.")
    where = "DATABASE_URL" if settings.postgres_url is not None else settings.database_file.name
    found = await asyncio.to_thread(_migrate, settings)
    if found.is_head:
        out.write(f"{where} is at revision {found.head} already.\n")
    else:
        before = f"was at revision {found.found}" if found.found else "held no studio"
        out.write(f"{where} {before}, and is at revision {found.head} now.\n")
    return 0


def _login(asked: argparse.Namespace, settings: Settings) -> str:
    if asked.login:
        return str(asked.login)
    login = login_of(parse_url(settings.postgres_url)) if settings.postgres_url else ""
    if not login:
        raise InvalidError(
            "invalid_arguments",
            "--sql must know the sidecar's own role: give --login NAME, or a DATABASE_URL with it.",
        )
    return login


def _migrate(settings: Settings) -> Standing:
    if settings.postgres_url is not None:
        if settings.database_admin_url is None:
            raise InvalidError(
                "invalid_setting",
                "DATABASE_ADMIN_URL is not set: expected the same database as a role that may "
                "create roles and schemas. Or print the SQL with --sql and run it there.",
            )
        admin_url = settings.database_admin_url.get_secret_value()
        return migrate_postgres(admin_url, settings.postgres_url)
    file = settings.database_file
    file.parent.mkdir(parents=True, exist_ok=True)
    with only_process(file):
        engine = sync_engine(file)
        try:
            return migrate(engine)
        finally:
            engine.dispose()

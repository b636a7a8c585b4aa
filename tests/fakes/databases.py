"""Databases for tests: one of a test's own on SQLite or Postgres, migrated."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import psycopg
from postgres_server import PostgresServer

from sidecar.database import migrations
from sidecar.database.migrations import migrate, migrate_postgres
from sidecar.database.postgres import opened
from sidecar.database.sqlite import SqliteDatabase, async_engine, sync_engine

APP_ROLE = "atelier_app"
TEMPLATE = "atelier_template"
HEAD = max(file.name[:4] for file in (Path(migrations.__file__).parent / "versions").glob("0*.py"))
"""The revision of this version."""


class PostgresStudios:
    """Makes migrated databases on one server, each a copy of a template."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self._numbers = count(1)
        self._free: list[str] = []
        server.create_database(TEMPLATE)
        migrate_postgres(server.url(TEMPLATE), server.url(TEMPLATE, APP_ROLE))

    def empty(self) -> str:
        """The name of a new database with nothing in it."""
        name = f"empty_{next(self._numbers)}"
        self.server.create_database(name)
        return name

    def new(self) -> str:
        """The name of a new migrated database."""
        name = f"studio_{next(self._numbers)}"
        self.server.create_database(name, TEMPLATE)
        return name

    def borrow(self) -> str:
        """The name of an empty migrated database that others have used before; its schema stays."""
        return self._free.pop() if self._free else self.new()

    def give_back(self, name: str) -> None:
        """Let the next one have it: making a database costs ten times as much as emptying one."""
        with psycopg.connect(self.admin_url(name), autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
            tables = connection.execute(
                "select quote_ident(schemaname) || '.' || quote_ident(tablename) from pg_tables"
                " where schemaname like 'atelier%' and tablename not in"
                " ('alembic_version', 'dbos_migrations')"
            ).fetchall()
            connection.execute(f"truncate {', '.join(name for (name,) in tables)}".encode())
        self._free.append(name)

    def url(self, name: str) -> str:
        """Where the sidecar's own role connects."""
        return self.server.url(name, APP_ROLE)

    def admin_url(self, name: str) -> str:
        """Where the owner of the tables connects."""
        return self.server.url(name)


def migrated_file(folder: Path) -> Path:
    """A migrated SQLite file."""
    file = folder / "atelier.db"
    engine = sync_engine(file)
    migrate(engine)
    engine.dispose()
    return file


@asynccontextmanager
async def sqlite_database(file: Path) -> AsyncIterator[SqliteDatabase]:
    """The database port on a migrated file."""
    engine = async_engine(file)
    try:
        yield SqliteDatabase(engine)
    finally:
        await engine.dispose()


__all__ = ["APP_ROLE", "HEAD", "PostgresStudios", "migrated_file", "opened", "sqlite_database"]

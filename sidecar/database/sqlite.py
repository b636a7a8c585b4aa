"""SQLite: one file in WAL mode, held by one process."""

import asyncio
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import UUID
from weakref import WeakValueDictionary

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from ..errors import AtelierError, ConflictError, StorageFullError, UnavailableError
from ..principal import Principal
from . import Transaction
from .tables import dump_json

BUSY_SECONDS = 30
_MODE_TRIES, _MODE_PAUSE = 100, 0.02
_SQLITE_FULL = 13
"""SQLITE_FULL of https://www.sqlite.org/rescode.html; the module names it from Python 3.11."""


def _configure(connection: Any, _record: Any) -> None:
    """FULL: in WAL mode, NORMAL may lose the last commits when the power goes."""
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
    cursor.execute("PRAGMA foreign_keys=ON")
    _write_ahead(cursor)
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _write_ahead(cursor: Any) -> None:
    """The mode stays with the file. Two that set it at once do not wait for each other by
    themselves, whatever the busy timeout."""
    for _ in range(_MODE_TRIES):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            time.sleep(_MODE_PAUSE)
        else:
            return
    cursor.execute("PRAGMA journal_mode=WAL")


def _begin_by_hand(connection: Any, _record: Any) -> None:
    connection.isolation_level = None


def _begin_immediate(connection: Any, _record: Any) -> None:
    connection.isolation_level = "IMMEDIATE"  # DBOS writes its own BEGIN where it needs one


def _know_milliseconds(connection: Any, _record: Any) -> None:
    """DBOS takes it that Python 3.12 comes with SQLite 3.42, whose unixepoch knows 'subsec'.

    A Python that was built on an older one has it answer NULL, and DBOS does not start.
    """
    if sqlite3.sqlite_version_info < (3, 42):
        connection.create_function("unixepoch", 1, lambda _modifier: time.time())


def _begin(connection: sa.Connection) -> None:
    """IMMEDIATE for writers: a reader that turns writer fails at once when another one wrote."""
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def sync_engine(file: Path) -> sa.Engine:
    """An engine for code that blocks: the migrations and DBOS."""
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(file)),
        connect_args={"timeout": BUSY_SECONDS},
        json_serializer=dump_json,
        hide_parameters=True,
    )
    sa.event.listen(engine, "connect", _configure)
    sa.event.listen(engine, "connect", _begin_immediate)
    sa.event.listen(engine, "connect", _know_milliseconds)
    return engine


def async_engine(file: Path) -> AsyncEngine:
    """The engine behind ``SqliteDatabase``."""
    engine = create_async_engine(
        sa.URL.create("sqlite+aiosqlite", database=str(file)),
        connect_args={"timeout": BUSY_SECONDS},
        json_serializer=dump_json,
        hide_parameters=True,
    )
    sa.event.listen(engine.sync_engine, "connect", _configure)
    sa.event.listen(engine.sync_engine, "connect", _begin_by_hand)
    sa.event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _translated(error: sa.exc.DBAPIError) -> AtelierError | None:
    """Our word for what SQLite's result code says; None for our own mistakes."""
    # Python 3.10 does not tell the code: a full disk is then one that cannot be used
    if getattr(error.orig, "sqlite_errorcode", None) == _SQLITE_FULL:
        return StorageFullError(
            "disk_full", "The disk of the database is full.", {"system": "database"}
        )
    if isinstance(error, sa.exc.OperationalError):
        return UnavailableError("database", "The database cannot be used at the moment.")
    return None


class SqliteDatabase:
    """The Database port on one SQLite file."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reader = engine.execution_options(read_only=True)
        self._locks: WeakValueDictionary[tuple[UUID, str], asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def transaction(
        self, principal: Principal, *, read_only: bool = False
    ) -> AsyncIterator[Transaction]:
        """See the Database port."""
        engine = self._reader if read_only else self._engine
        try:
            async with engine.begin() as connection:
                yield Transaction(principal, connection)
        except sa.exc.DBAPIError as error:
            translated = _translated(error)
            if translated is None:
                raise
            raise translated from error

    def alone(self, principal: Principal, what: str) -> AbstractAsyncContextManager[None]:
        """See the Database port: only one process holds the file."""
        return self._locks.setdefault((principal.id, what), asyncio.Lock())

    async def check(self) -> None:
        """See the Database port."""
        try:
            async with self._reader.connect() as connection:
                await connection.execute(sa.text("SELECT 1"))
        except sa.exc.DBAPIError as error:
            raise (_translated(error) or error) from error


@contextmanager
def only_process(file: Path) -> Iterator[None]:
    """Hold the file for this process, or ConflictError("data_in_use").

    Two processes on one file would each recover, and run, the other's runs. The lock is on a
    sibling: closing any handle on the database file drops the locks SQLite holds on it. The kernel
    frees it on every kind of death.
    """
    with Path(f"{file}.lock").open("a+", encoding="utf-8") as handle:
        try:
            _lock(handle)
        except OSError:
            raise ConflictError(
                "data_in_use",
                f"Another sidecar already uses {file.name} in {file.parent}. "
                "Stop it, or give this one its own folder with ATELIER_DATA_DIR.",
            ) from None
        yield


def _lock(handle: IO[str]) -> None:
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415 - exists on Windows only

        handle.seek(0)
        msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl  # noqa: PLC0415 - does not exist on Windows

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

"""Postgres, Supabase's or any other: row-level security binds every transaction.

The sidecar logs in as a role that owns nothing and inherits nothing. Each transaction takes one of
two roles for its own length, in one round trip: ``authenticated`` with the asker's id as claims, as
Supabase's Data API does, or the narrow ``atelier_system`` for the few jobs across accounts. A
transaction that forgot to could not read anything.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ..errors import InvalidError, UnavailableError
from ..principal import Principal, Role
from . import Transaction
from .bounded import bounded
from .postgres_errors import NOT_IN_TIME, READ_ONLY, code_of, translating
from .tables import dump_json

SCHEMA = "atelier"
ENGINE_SCHEMA = "atelier_dbos"
MEMBER_ROLE = "authenticated"
SYSTEM_ROLE = "atelier_system"


@dataclass(frozen=True)
class Waits:
    """How long anybody waits for the database, in seconds."""

    connect: int = 5
    """libpq knows no less than 2."""
    pool: float = 5.0
    """For a connection that somebody else uses."""
    statement: float = 15.0
    """For a statement: the server ends it."""
    answer: float = 20.0
    """For a server that says nothing at all."""
    lock: float = 600.0
    """For whoever works ``alone``."""


_LOCKS_AT_ONCE = 8
"""Connections that hold a lock are not taken from the pool that everybody else waits for."""
_LOCK_ROUND_SECONDS = 5.0
"""Below ``Waits.answer``, so that waiting for a lock is told from a server that hangs."""

_BECOME = (
    "select set_config('role', :role, true), set_config('request.jwt.claims', :claims, true),"
    f" set_config('search_path', '{SCHEMA}', true),"
    " set_config('statement_timeout', :statement, true)"
)
_BEGIN = sa.text(_BECOME)
# only ever turned on: a standby, and a server that is read-only by default, refuse "off"
_BEGIN_READING = sa.text(f"{_BECOME}, set_config('transaction_read_only', 'on', true)")
_WAIT_FOR_LOCK = sa.text(
    "select set_config('lock_timeout', :wait, true), set_config('statement_timeout', '0', true),"
    " set_config('idle_in_transaction_session_timeout', '0', true)"
)
_LOCK = sa.text("select pg_advisory_xact_lock(hashtextextended(:key, 0))")


def parse_url(url: str) -> sa.URL:
    """The URL for psycopg. InvalidError("invalid_setting") for one that cannot be read."""
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):  # ValueError: a port that is no number
        raise InvalidError(
            "invalid_setting", "DATABASE_URL is a secret: it cannot be read as a URL."
        ) from None
    # Supabase shows its pooler's URL with a parameter that only Prisma knows
    return parsed.set(drivername="postgresql+psycopg").difference_update_query(["pgbouncer"])


def login_of(url: sa.URL) -> str:
    """The role that a URL logs in as. Supabase's pooler has the project after it: role.project."""
    return (url.username or "").partition(".")[0]


# prepare_threshold None: behind a pooler in transaction mode a prepared statement belongs to
# whichever server connection happened to prepare it
_CONNECT: dict[str, Any] = {
    "prepare_threshold": None,
    "connect_timeout": Waits.connect,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": int(Waits.answer * 1000),
}


def sync_engine(url: str) -> sa.Engine:
    """An engine for code that blocks: DBOS."""
    engine = sa.create_engine(
        parse_url(url),
        connect_args=_CONNECT,
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=10,
        json_serializer=dump_json,
        hide_parameters=True,
    )
    sa.event.listen(engine, "connect", _end_idle_transactions)
    return engine


def _end_idle_transactions(connection: Any, _record: Any) -> None:
    """A frozen process must not keep row locks for ever."""
    with connection.cursor() as cursor:
        cursor.execute("select set_config('idle_in_transaction_session_timeout', '30s', false)")
    connection.commit()  # the pool's rollback would undo it


@asynccontextmanager
async def opened(url: str, waits: Waits | None = None) -> AsyncIterator["PostgresDatabase"]:
    """The database behind this URL, until the block ends. Connects when it is first used."""
    waits = waits or Waits()
    connect = {
        **_CONNECT,
        "connect_timeout": waits.connect,
        "async_creator_fn": bounded(waits.answer),
    }
    rows = create_async_engine(
        parse_url(url),
        connect_args=connect,
        pool_size=10,
        max_overflow=5,
        pool_timeout=waits.pool,
        json_serializer=dump_json,
        hide_parameters=True,
    )
    locks = create_async_engine(
        parse_url(url), connect_args=connect, poolclass=sa.NullPool, hide_parameters=True
    )
    try:
        yield PostgresDatabase(rows, locks, waits)
    finally:
        await rows.dispose()
        await locks.dispose()


class PostgresDatabase:
    """The Database port on Postgres."""

    def __init__(self, rows: AsyncEngine, locks: AsyncEngine, waits: Waits) -> None:
        self._rows = rows
        self._lock_connections = locks
        self._waits = waits
        self._locks: WeakValueDictionary[tuple[UUID, str], asyncio.Lock] = WeakValueDictionary()
        self._lock_places = asyncio.Semaphore(_LOCKS_AT_ONCE)

    @asynccontextmanager
    async def transaction(
        self, principal: Principal, *, read_only: bool = False
    ) -> AsyncIterator[Transaction]:
        """See the Database port."""

        async def begin(connection: AsyncConnection) -> None:
            await self.become(connection, principal, read_only=read_only)

        with translating():
            connection = await self._begun(begin)
            try:
                yield Transaction(principal, connection)
                await connection.commit()
            except sa.exc.DBAPIError as error:
                if not read_only and code_of(error) == READ_ONLY:
                    await connection.invalidate()  # the next one connects to who writes now
                raise
            finally:
                await connection.close()

    @asynccontextmanager
    async def as_login(self) -> AsyncIterator[AsyncConnection]:
        """A transaction of the login itself, which may do next to nothing; never committed."""

        async def begin(connection: AsyncConnection) -> None:
            await connection.execute(sa.text("select 1"))

        with translating():
            connection = await self._begun(begin)
            try:
                yield connection
            finally:
                await connection.close()

    async def become(
        self, connection: AsyncConnection, principal: Principal, *, read_only: bool = False
    ) -> None:
        """Make the transaction on this connection the principal's."""
        is_system = principal.role is Role.SYSTEM
        claims = {} if is_system else {"sub": str(principal.id), "role": MEMBER_ROLE}
        values = {
            "role": SYSTEM_ROLE if is_system else MEMBER_ROLE,
            "claims": json.dumps(claims),
            "statement": f"{int(self._waits.statement * 1000)}ms",
        }
        await connection.execute(_BEGIN_READING if read_only else _BEGIN, values)

    @asynccontextmanager
    async def alone(self, principal: Principal, what: str) -> AsyncIterator[None]:
        """See the Database port: an advisory lock, which ends with its connection."""
        # first among ourselves, so that those who wait here hold no connection
        ours = self._locks.setdefault((principal.id, what), asyncio.Lock())
        async with ours, self._lock_places:
            with translating():
                connection = await self._locked(f"{SCHEMA}/{principal.id}/{what}")
            try:
                yield
            finally:
                with suppress(sa.exc.DBAPIError):  # one that was lost has lost its lock
                    await connection.close()

    async def check(self) -> None:
        """See the Database port."""
        async with self.as_login():
            pass

    async def _begun(self, begin: Callable[[AsyncConnection], Awaitable[None]]) -> AsyncConnection:
        """A connection on which ``begin`` was done.

        Tried twice: after a restart of the server the pool's connections are dead, which shows
        when they are used, and nothing has been asked yet.
        """
        try:
            return await self._tried(begin)
        except sa.exc.DBAPIError as error:
            if not error.connection_invalidated:
                raise
        return await self._tried(begin)

    async def _tried(self, begin: Callable[[AsyncConnection], Awaitable[None]]) -> AsyncConnection:
        connection = await self._rows.connect()
        try:
            await begin(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _locked(self, key: str) -> AsyncConnection:
        """A connection whose transaction holds this lock."""
        seconds = min(_LOCK_ROUND_SECONDS, self._waits.lock)
        for _ in range(round(self._waits.lock / seconds)):
            connection = await self._lock_connections.connect()
            try:
                await connection.execute(_WAIT_FOR_LOCK, {"wait": f"{int(seconds * 1000)}ms"})
                await connection.execute(_LOCK, {"key": key})
            except BaseException as error:
                await connection.close()
                if not isinstance(error, sa.exc.DBAPIError) or code_of(error) != NOT_IN_TIME:
                    raise
            else:
                return connection
        raise UnavailableError("database", "Somebody else has been at it for too long.")

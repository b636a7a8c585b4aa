"""Ways to a Postgres database: directly, and through each kind of pooler."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
from databases import PostgresStudios, opened
from pgbouncer import NO_PGBOUNCER, PgBouncer, find_pgbouncer
from postgres_server import PostgresServer

from sidecar.database.postgres import PostgresDatabase


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly when nothing was tried behind a pooler."""
    if find_pgbouncer() is None:
        terminalreporter.write_line(NO_PGBOUNCER, yellow=True, bold=True)


@contextmanager
def _pooler(server: PostgresServer, mode: str) -> Iterator[PgBouncer]:
    if find_pgbouncer() is None:
        pytest.skip(NO_PGBOUNCER)
    pooler = PgBouncer(server, mode)
    try:
        pooler.start()
        yield pooler
    finally:
        pooler.stop()


@pytest.fixture(scope="session")
def transaction_pooler(postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    """A pooler that lends a server connection for the length of a transaction."""
    with _pooler(postgres_server, "transaction") as made:
        yield made


@pytest.fixture(scope="session")
def session_pooler(postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    """A pooler that lends it for as long as a client is connected."""
    with _pooler(postgres_server, "session") as made:
        yield made


@pytest.fixture(params=["direct", "transaction_pooler", "session_pooler"])
def url(request: pytest.FixtureRequest, postgres: PostgresStudios, postgres_name: str) -> str:
    """The URL of a migrated database of this test's own, each way."""
    if request.param == "direct":
        return postgres.url(postgres_name)
    pooler: PgBouncer = request.getfixturevalue(request.param)
    return pooler.url(postgres_name)


@pytest.fixture
async def shared(url: str) -> AsyncIterator[PostgresDatabase]:
    """That database."""
    async with opened(url) as made:
        yield made

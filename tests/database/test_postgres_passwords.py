"""The password of the sidecar's login, on a server that asks for it."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from databases import APP_ROLE, opened
from postgres_server import ADMIN, PostgresServer

from sidecar.database.migrations import migrate_postgres, require_migrated
from sidecar.errors import UnavailableError

SECRET = "s3cret'\\$% :@/"
ANOTHER = "another"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that lets in the administrator alone without a password."""
    made = PostgresServer()
    try:
        made.start()
        rules = f"host all {ADMIN} 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (made.folder / "data" / "pg_hba.conf").write_text(rules)
        made.psql("select pg_reload_conf()")
        yield made
    finally:
        made.stop()


def url(server: PostgresServer, password: str) -> str:
    """The sidecar's URL with this password."""
    return (
        sa.make_url(server.url(ADMIN, APP_ROLE))
        .set(password=password)
        .render_as_string(hide_password=False)
    )


async def lets_in(server: PostgresServer, password: str) -> bool:
    """Whether the sidecar comes in with it."""
    async with opened(url(server, password)) as database:
        try:
            await require_migrated(database)
        except UnavailableError as error:
            return "password authentication failed" not in error.message
    return True


async def test_the_password_is_that_of_the_url_and_is_stored_once(server: PostgresServer) -> None:
    stored = "select rolpassword from pg_authid where rolname = 'atelier_app'"
    migrate_postgres(server.url(ADMIN), url(server, SECRET))
    assert await lets_in(server, SECRET)
    assert not await lets_in(server, ANOTHER)
    with pytest.raises(UnavailableError) as refused:
        async with opened(url(server, ANOTHER)) as database:
            await require_migrated(database)
    assert ANOTHER not in refused.value.message
    first = server.psql(stored)
    migrate_postgres(server.url(ADMIN), url(server, SECRET))
    assert server.psql(stored) == first
    migrate_postgres(server.url(ADMIN), url(server, ANOTHER))
    assert await lets_in(server, ANOTHER)
    assert not await lets_in(server, SECRET)


async def test_no_log_of_the_server_repeats_the_password(server: PostgresServer) -> None:
    server.psql("alter system set log_statement = 'all'")
    server.psql("select pg_reload_conf()")
    for password in ("first-s3cret", "second-s3cret"):
        migrate_postgres(server.url(ADMIN), url(server, password))
        assert await lets_in(server, password)
        log = (server.folder / "log").read_text("utf-8")
        assert "alter role" in log
        assert password not in log

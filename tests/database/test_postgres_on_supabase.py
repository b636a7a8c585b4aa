"""A database in Supabase's shape, migrated by a role that is no superuser."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from uuid import UUID

import pytest
from databases import APP_ROLE, opened
from postgres_server import PostgresServer
from workflow_rows import add_workflow, owners_seen

from sidecar.database.migrations import migrate_postgres, require_migrated, sql_for_postgres
from sidecar.database.row_security import holes, probe, require_binding
from sidecar.errors import InvalidError
from sidecar.principal import Principal

ADMIN = "project_admin"
ANN, BOB = Principal(UUID(int=1)), Principal(UUID(int=2))
SHAPE = (Path(__file__).parents[1] / "fakes" / "supabase_database.sql").read_text("utf-8")
AUTH = """
select 'function', proname, prosrc, pg_get_userbyid(proowner), proacl::text from pg_proc
    where pronamespace = 'auth'::regnamespace
union all
select 'table', relname, relrowsecurity::text, pg_get_userbyid(relowner), relacl::text
    from pg_class where relnamespace = 'auth'::regnamespace
union all
select 'schema', nspname, '', pg_get_userbyid(nspowner), nspacl::text from pg_namespace
    where nspname = 'auth'
union all
select 'user', id::text, email, encrypted_password, raw_user_meta_data::text from auth.users
union all
select 'role', rolname, rolinherit::text, rolbypassrls::text, rolconfig::text from pg_roles
    where rolname in ('anon', 'authenticated', 'service_role', 'authenticator', 'project_admin')
order by 1, 2
"""
_numbers = count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of this file's own: the roles are the server's."""
    made = PostgresServer()
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def project(server: PostgresServer) -> Iterator[str]:
    """The name of a project's database, not migrated."""
    name = f"project_{next(_numbers)}"
    server.create_database(name)
    server.psql(SHAPE, name)
    yield name
    server.drop_database(name)


@pytest.fixture
def migrated(server: PostgresServer, project: str) -> str:
    """The same, migrated."""
    migrate_postgres(server.url(project, ADMIN), server.url(project, APP_ROLE))
    return project


async def test_what_is_there_is_used_and_not_touched(server: PostgresServer, project: str) -> None:
    before = server.psql(AUTH, project)
    migrate_postgres(server.url(project, ADMIN), server.url(project, APP_ROLE))
    assert "ann@example.org" in before
    assert server.psql(AUTH, project) == before


async def test_row_level_security_binds_there(server: PostgresServer, migrated: str) -> None:
    async with opened(server.url(migrated, APP_ROLE)) as database:
        await require_binding(database)
        for each in (ANN, BOB):
            await add_workflow(database, each)
        assert await owners_seen(database, ANN) == {ANN.id}
        await require_binding(database)


async def test_the_printed_sql_does_the_same(server: PostgresServer, project: str) -> None:
    server.psql(sql_for_postgres(APP_ROLE), project, ADMIN)
    async with opened(server.url(project, APP_ROLE)) as database:
        assert (await require_migrated(database)).is_head
        assert await holes(database) == []
        assert await probe(database) == []


async def test_migrating_again_changes_nothing(server: PostgresServer, migrated: str) -> None:
    found = migrate_postgres(server.url(migrated, ADMIN), server.url(migrated, APP_ROLE))
    assert found.is_head


async def test_the_projects_own_role_is_refused_as_login(
    server: PostgresServer, migrated: str
) -> None:
    async with opened(server.url(migrated, ADMIN)) as database:
        with pytest.raises(InvalidError) as refused:
            await require_binding(database)
    message = refused.value.message
    assert "login project_admin has BYPASSRLS" in message
    assert "login project_admin may create roles" in message
    assert "project_admin, who owns accounts, " in message
    assert "login project_admin may become service_role, which has BYPASSRLS" in message


async def test_a_login_that_may_become_the_service_role_is_refused(
    server: PostgresServer, migrated: str
) -> None:
    server.psql("create role too_much login noinherit")
    server.psql("grant authenticated, atelier_system, service_role to too_much")
    async with opened(server.url(migrated, "too_much")) as database:
        found = await holes(database)
    server.psql("drop role too_much")
    assert found == ["login too_much may become service_role, which has BYPASSRLS"]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("grant usage on schema atelier to anon", ["schema atelier is open to anon"]),
        (
            "grant select on atelier.sessions to anon",
            ["table sessions: something is granted to anon"],
        ),
        (
            "create policy p on atelier.sessions for select to anon using (true)",
            ["table sessions: policy p is for anon"],
        ),
    ],
)
async def test_what_is_open_to_requests_without_a_token_is_named(
    server: PostgresServer, migrated: str, sql: str, expected: list[str]
) -> None:
    server.psql(sql, migrated)
    async with opened(server.url(migrated, APP_ROLE)) as database:
        assert await holes(database) == expected


@pytest.mark.parametrize("role", ["anon", "service_role"])
def test_the_data_api_without_a_users_token_gets_at_nothing(
    server: PostgresServer, migrated: str, role: str
) -> None:
    with pytest.raises(AssertionError, match="permission denied for schema atelier"):
        server.psql(f"set role {role}; table atelier.comfyui_workflows", migrated, "authenticator")


async def test_a_login_that_was_made_by_hand_is_made_right(
    server: PostgresServer, project: str
) -> None:
    server.psql("create role by_hand login inherit createdb", project, ADMIN)
    server.psql("grant authenticated to by_hand", project, ADMIN)
    migrate_postgres(server.url(project, ADMIN), server.url(project, "by_hand"))
    async with opened(server.url(project, "by_hand")) as database:
        assert await holes(database) == []

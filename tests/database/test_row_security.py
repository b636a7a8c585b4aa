"""The check that row-level security binds: silent on what was migrated, and named for each hole.

Each hole is made by hand in a fresh database, as an administrator might.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from uuid import UUID

import pytest
from databases import PostgresStudios, opened
from workflow_rows import add_workflow, owners_seen

from sidecar.database.row_security import holes, probe, require_binding
from sidecar.database.tables import metadata
from sidecar.errors import InvalidError
from sidecar.principal import Principal

ANN, BOB = Principal(UUID(int=1)), Principal(UUID(int=2))
WORKFLOWS = "atelier.comfyui_workflows"
ORDINARY = "login noinherit"


@dataclass
class Hurt:
    """A database to make holes in, and what the check says of it."""

    studios: PostgresStudios
    name: str

    def sql(self, sql: str) -> str:
        """Change something, as a superuser."""
        return self.studios.server.psql(f"set search_path = atelier; {sql}", self.name)

    async def holes(self, login: str | None = None) -> list[str]:
        """What is found as this login, by default the sidecar's own."""
        async with opened(self._url(login)) as database:
            return await holes(database)

    async def tried(self, login: str | None = None) -> list[str]:
        """What comes out when it is tried."""
        async with opened(self._url(login)) as database:
            return await probe(database)

    def _url(self, login: str | None) -> str:
        server = self.studios.server
        return self.studios.url(self.name) if login is None else server.url(self.name, login)


@pytest.fixture
def hurt(postgres: PostgresStudios, postgres_name: str) -> Hurt:
    """A migrated database of this test's own."""
    return Hurt(postgres, postgres_name)


@pytest.fixture
def roles(hurt: Hurt) -> Iterator["Roles"]:
    """Roles of this test's own: they are the server's, which other tests use as well."""
    made = Roles(hurt)
    yield made
    made.drop()


class Roles:
    """Makes roles."""

    _numbers = count(1)

    def __init__(self, hurt: Hurt) -> None:
        self._hurt = hurt
        self._made: list[str] = []

    def new(self, attributes: str, *grants: str) -> str:
        """A role with these attributes, which may become those."""
        name = f"hurt_{next(self._numbers)}"
        self._made.append(name)
        granted = "".join(f"; grant {grant} to {name}" for grant in grants)
        self._hurt.sql(f"create role {name} {attributes}{granted}")
        return name

    def login(self, attributes: str, *grants: str) -> str:
        """One that may be what the sidecar's login may be, and these."""
        return self.new(attributes, "authenticated", "atelier_system", *grants)

    def drop(self) -> None:
        """Drop them all, and what they own."""
        for name in reversed(self._made):
            self._hurt.sql(f"drop owned by {name} cascade; drop role {name}")


async def test_what_was_migrated_has_no_holes(hurt: Hurt) -> None:
    assert await hurt.holes() == []
    assert await hurt.tried() == []


async def test_trying_leaves_nothing_and_is_not_misled_by_what_is_there(hurt: Hurt) -> None:
    async with opened(hurt.studios.url(hurt.name)) as database:
        for each in (ANN, BOB):
            await add_workflow(database, each)
        await require_binding(database)
        assert await owners_seen(database, ANN) == {ANN.id}
    assert hurt.sql("select count(*) from comfyui_workflows") == "2"


async def test_all_holes_stand_in_the_one_refusal(hurt: Hurt) -> None:
    hurt.sql("alter table comfyui_workflows no force row level security")
    hurt.sql("alter table comfyui_lora_models disable row level security")
    async with opened(hurt.studios.url(hurt.name)) as database:
        with pytest.raises(InvalidError) as refused:
            await require_binding(database)
    assert refused.value.code == "row_security_does_not_bind"
    assert "\n" not in refused.value.message
    for line in refused.value.details["holes"]:
        assert line in refused.value.message
    assert "comfyui_workflows: row-level security is not forced" in refused.value.message
    assert "comfyui_lora_models: row-level security is not enabled" in refused.value.message


@pytest.mark.parametrize(
    ("change", "back", "line"),
    [
        ("no force row level security", "force row level security", "not forced"),
        ("disable row level security", "enable row level security", "not enabled"),
    ],
)
async def test_each_table_that_loses_its_row_level_security_is_named(
    hurt: Hurt, change: str, back: str, line: str
) -> None:
    for table in metadata.tables:
        hurt.sql(f"alter table {table} {change}")
        assert await hurt.holes() == [f"table {table}: row-level security is {line}"]
        hurt.sql(f"alter table {table} {back}")


async def test_each_policy_that_is_dropped_is_missed(hurt: Hurt) -> None:
    policies = hurt.sql(
        "select tablename, policyname, roles[1], lower(cmd),"
        " translate(coalesce(qual, ''), chr(10), ' '),"
        " translate(coalesce(with_check, ''), chr(10), ' ')"
        " from pg_policies where schemaname = 'atelier'"
    )
    assert policies
    for policy in policies.splitlines():
        table, name, role, command, sees, leaves = policy.split("|")
        hurt.sql(f"drop policy {name} on {table}")
        expected = f"table {table}: {role} may {command.upper()}, and no policy says of which rows"
        if name == f"{table}_shared_select":
            expected = f"table {table}: no policy shows what is shared"
        elif name == f"{table}_owner_select" and f"{table}_shared_select" in policies:
            expected = f"table {table}: no policy shows one's own rows"
        assert await hurt.holes() == [expected]
        using = f" using ({sees})" if sees else ""
        check = f" with check ({leaves})" if leaves else ""
        hurt.sql(f"create policy {name} on {table} for {command} to {role}{using}{check}")
    assert await hurt.holes() == []


@pytest.mark.parametrize("loose", ["true", "(owner_id = (select auth.uid())) or true", "id = id"])
async def test_each_policy_of_members_that_lets_go_of_the_owner_is_named(
    hurt: Hurt, loose: str
) -> None:
    policies = hurt.sql(
        "select tablename, policyname, cmd from pg_policies"
        " where schemaname = 'atelier' and 'authenticated' = any (roles)"
        " and tablename in ('comfyui_workflows', 'comfyui_workflow_runs', 'sessions')"
    )
    assert policies
    expected = []
    for policy in policies.splitlines():
        table, name, command = policy.split("|")
        named = f"table {table}: policy {name}"
        if command != "INSERT":
            hurt.sql(f"alter policy {name} on {table} using ({loose})")
            expected.append(f"{named} shows rows of others")
        if command in ("INSERT", "UPDATE"):
            hurt.sql(f"alter policy {name} on {table} with check ({loose})")
            expected.append(f"{named} lets rows of others be written")
    assert sorted(await hurt.holes()) == sorted(expected)


SINGLE = {
    "a policy for everybody": (
        "create policy p on comfyui_workflows for select using (owner_id = (select auth.uid()))",
        ["table comfyui_workflows: policy p is for everybody"],
    ),
    "a policy for all commands": (
        "create policy p on comfyui_workflows to authenticated using (true)",
        [
            "table comfyui_workflows: policy p shows rows of others",
            "table comfyui_workflows: policy p lets rows of others be written",
        ],
    ),
    "an update checked by what it sees": (
        "drop policy comfyui_workflows_owner_update on comfyui_workflows;"
        "create policy p on comfyui_workflows for update to authenticated"
        " using (owner_id = (select auth.uid()))",
        [],
    ),
    "a policy that only takes away": (
        "create policy p on comfyui_workflows as restrictive to public using (name <> 'x')",
        [],
    ),
    "truncate": (
        "grant truncate on comfyui_workflows to authenticated",
        ["table comfyui_workflows: authenticated may TRUNCATE"],
    ),
    "truncate for the narrow role": (
        "grant truncate on comfyui_run_events to atelier_system",
        ["table comfyui_run_events: atelier_system may TRUNCATE"],
    ),
    "triggers": (
        "grant trigger on sessions to authenticated",
        ["table sessions: authenticated may TRIGGER"],
    ),
    "references": (
        "grant references (id) on accounts to authenticated",
        ["table accounts: authenticated may REFERENCES"],
    ),
    "a table for everybody": (
        "grant select on comfyui_workflows to public",
        ["table comfyui_workflows: something is granted to public"],
    ),
    "a column for everybody": (
        "grant select (name) on comfyui_workflows to public",
        ["table comfyui_workflows: something is granted to public"],
    ),
    "the schema for everybody": (
        "grant usage on schema atelier to public",
        ["schema atelier is open to public"],
    ),
    "new tables by members": (
        "grant create on schema atelier to authenticated",
        ["schema atelier lets authenticated create things"],
    ),
    "the engine's schema for members": (
        "grant usage on schema atelier_dbos to authenticated",
        ["schema atelier_dbos is open to authenticated"],
    ),
    "accounts that members change": (
        "grant update (role) on accounts to authenticated;"
        "create policy p on accounts for update to authenticated using (id = (select auth.uid()))",
        ["table accounts: authenticated may change it"],
    ),
    "a leaky view": (
        "create view leaky as select * from comfyui_workflows",
        ["view leaky shows what its owner sees: it lacks security_invoker"],
    ),
    "a view as whoever asks": (
        "create view tight with (security_invoker = true) as select * from comfyui_workflows",
        [],
    ),
    "a materialized view": (
        "create materialized view kept as select * from comfyui_workflows",
        ["materialized view kept has no row-level security"],
    ),
    "a function as its owner": (
        "create function reach() returns bigint language sql security definer"
        " as 'select count(*) from atelier.comfyui_workflows'",
        [
            "function reach acts as its owner, and atelier_system may call it",
            "function reach acts as its owner, and authenticated may call it",
        ],
    ),
    "a table of somebody else's making": (
        "create table notes (id int); grant select on notes to authenticated",
        [
            "table notes: row-level security is not enabled",
            "table notes: row-level security is not forced",
            "table notes: authenticated may SELECT, and no policy says of which rows",
            "table notes has no owner_id",
        ],
    ),
    "a child that may hang on another's parent": (
        "alter table comfyui_run_events drop constraint fk_comfyui_run_events_run_id_owner_id;"
        "alter table comfyui_run_events add constraint loose foreign key (run_id)"
        " references comfyui_workflow_runs (id)",
        [
            "table comfyui_run_events: its reference loose to comfyui_workflow_runs"
            " does not carry the owner",
            "table comfyui_run_events: (run_id, owner_id) does not refer to comfyui_workflow_runs",
        ],
    ),
}


@pytest.mark.parametrize("hole", SINGLE)
async def test_a_hole_is_named_and_nothing_else_is(hurt: Hurt, hole: str) -> None:
    sql, expected = SINGLE[hole]
    hurt.sql(sql)
    assert await hurt.holes() == expected


async def test_a_missing_table_is_named(hurt: Hurt) -> None:
    hurt.sql("drop table comfyui_run_events")
    assert await hurt.holes() == ["table comfyui_run_events is missing"]


async def test_a_database_that_was_never_migrated_is_named_as_such(
    postgres: PostgresStudios,
) -> None:
    name = postgres.empty()
    assert await Hurt(postgres, name).holes() == ["schema atelier is missing"]
    postgres.server.drop_database(name)


async def test_a_superuser_as_login_is_named(hurt: Hurt) -> None:
    assert await hurt.holes("postgres") == ["login postgres is a superuser, whom no policy binds"]


@pytest.mark.parametrize(
    ("attributes", "line"),
    [
        ("bypassrls", "has BYPASSRLS"),
        ("createrole", "may create roles, and so become others"),
        ("replication", "may replicate, and so read every row"),
    ],
)
async def test_a_login_with_too_much_power_is_named(
    hurt: Hurt, roles: Roles, attributes: str, line: str
) -> None:
    login = roles.login(f"{ORDINARY} {attributes}")
    assert await hurt.holes(login) == [f"login {login} {line}"]


async def test_a_login_that_inherits_is_named(hurt: Hurt, roles: Roles) -> None:
    login = roles.login("login inherit")
    assert await hurt.holes(login) == [
        f"login {login} inherits what {role} may do, so a transaction that forgot its role would"
        " not be refused"
        for role in ("atelier_system", "authenticated")
    ]


async def test_a_login_that_may_become_a_role_that_nothing_binds_is_named(
    hurt: Hurt, roles: Roles
) -> None:
    service = roles.new("nologin bypassrls")
    between = roles.new("nologin", service)
    login = roles.login(ORDINARY, between)
    assert await hurt.holes(login) == [f"login {login} may become {service}, which has BYPASSRLS"]


async def test_a_login_that_owns_the_tables_or_may_become_their_owner_is_named(
    hurt: Hurt, roles: Roles
) -> None:
    owner = roles.new("nologin")
    login = roles.login(ORDINARY, owner)
    assert await hurt.holes(login) == []
    hurt.sql(f"alter table comfyui_workflows owner to {owner}")
    hurt.sql(f"alter table sessions owner to {login}")
    assert await hurt.holes(login) == [
        f"login {login} is or may become {owner}, who owns comfyui_workflows",
        f"login {login} is or may become {login}, who owns sessions",
    ]


async def test_a_login_that_may_not_take_its_roles_is_named(hurt: Hurt, roles: Roles) -> None:
    login = roles.new(ORDINARY)
    assert await hurt.holes(login) == [
        f"login {login} may not become authenticated",
        f"login {login} may not become atelier_system",
    ]
    assert await hurt.tried(login) == ['tried: permission denied to set role "authenticated"']


async def test_a_policy_for_another_role_that_the_login_may_become_is_named(
    hurt: Hurt, roles: Roles
) -> None:
    reporter = roles.new("nologin")
    login = roles.login(ORDINARY, reporter)
    hurt.sql(f"create policy p on comfyui_workflows for select to {reporter} using (true)")
    assert await hurt.holes() == []
    assert await hurt.holes(login) == [
        f"table comfyui_workflows: policy p is for {reporter}, which the login may become"
    ]


TRIED = {
    "rows of others are shown": (
        "alter policy comfyui_workflows_owner_select on comfyui_workflows using (true)",
        "tried: somebody without a row saw one in comfyui_workflows",
    ),
    "no row-level security": (
        "alter table comfyui_workflows disable row level security",
        "tried: somebody changed another's row in comfyui_workflows",
    ),
    "rows for others are taken": (
        "alter policy comfyui_workflows_owner_insert on comfyui_workflows with check (true)",
        "tried: somebody inserted a row for another into comfyui_workflows",
    ),
    "a leaky view": (
        "create view leaky as select * from comfyui_workflows;"
        "grant select on leaky to authenticated",
        "tried: somebody without a row saw one in leaky",
    ),
    "nothing is taken": (
        "drop policy comfyui_workflows_owner_insert on comfyui_workflows",
        "tried: authenticated cannot insert into comfyui_workflows for itself",
    ),
    "nothing is shown": (
        "drop policy comfyui_workflows_owner_select on comfyui_workflows",
        "tried: authenticated does not see its own row in comfyui_workflows",
    ),
    "everybody is the same": (
        "create or replace function auth.uid() returns uuid language sql stable as"
        " $$ select '00000000-0000-4000-8000-000000000001'::uuid $$",
        "tried: authenticated cannot insert into comfyui_workflows for itself",
    ),
    "another table's rows are shown": (
        "insert into comfyui_lora_models (id, owner_id, name, stem, tags, trigger_words,"
        " head_version, created_at, updated_at) values (gen_random_uuid(), gen_random_uuid(),"
        " 'x', 'x', '[]', '[]', 1, now(), now());"
        "alter policy comfyui_lora_models_owner_select on comfyui_lora_models using (true)",
        "tried: somebody without a row saw one in comfyui_lora_models",
    ),
}


@pytest.mark.parametrize("hole", TRIED)
async def test_a_hole_shows_when_it_is_tried(hurt: Hurt, hole: str) -> None:
    sql, expected = TRIED[hole]
    hurt.sql(sql)
    assert expected in await hurt.tried()

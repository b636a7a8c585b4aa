"""Revision 0005: what Supabase said is where nobody is found by it, on both databases."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from databases import APP_ROLE, PostgresStudios

from sidecar.database import migrations
from sidecar.database.migrations import migrate, sql_for_postgres
from sidecar.database.sqlite import sync_engine
from sidecar.principal import LOCAL_ACCOUNT_ID

FIRST, SEEN, PASSWORD, NAMELESS, PLAIN = (LOCAL_ACCOUNT_ID, *(UUID(int=n) for n in range(1, 5)))
BEFORE = (
    # id, e-mail, hash, whether Supabase knows it
    (FIRST, "ann@example.org", None, True),
    (SEEN, "boss@example.org", None, True),
    (PASSWORD, "ben@example.org", "$argon2id$", True),
    (NAMELESS, None, None, True),
    (PLAIN, "cy@example.org", None, False),
)
AFTER = {
    FIRST: ("ann@example.org", None),
    SEEN: (None, "boss@example.org"),
    PASSWORD: ("ben@example.org", None),
    NAMELESS: (None, None),
    PLAIN: ("cy@example.org", None),
}
INSERT = "insert into accounts (id, email, password_hash, supabase_id, role, created_at) values"
SHOWN = "select id, email, supabase_email from accounts"


def insertions(*, dashes: bool) -> Iterator[str]:
    """The accounts of before, as SQL."""

    def text(value: object) -> str:
        if isinstance(value, UUID):
            return f"'{value if dashes else value.hex}'"
        return "null" if value is None else f"'{value}'"

    for account, email, password, is_known in BEFORE:
        values = (account, email, password, account if is_known else None)
        given = ", ".join(text(each) for each in values)
        yield f"{INSERT} ({given}, 'member', '2026-01-01 00:00:00')"


def test_a_file_s_accounts_keep_what_was_proved_alone(tmp_path: Path) -> None:
    engine = sync_engine(tmp_path / "atelier.db")
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
        for insertion in insertions(dashes=False):
            connection.execute(sa.text(insertion))
    migrate(engine)
    with engine.connect() as connection:
        rows = connection.execute(sa.text(SHOWN)).all()
    engine.dispose()
    assert {UUID(row.id): (row.email, row.supabase_email) for row in rows} == AFTER


@pytest.fixture
def before(postgres: PostgresStudios) -> Iterator[str]:
    """The name of a database at revision 0004 whose tables belong to a role without privileges."""
    name = postgres.empty()
    until_then, _ = sql_for_postgres(APP_ROLE).split("-- Running upgrade 0004 -> 0005")
    postgres.server.psql(f"{until_then}; commit;", name)
    postgres.server.psql(
        "set search_path = atelier;"
        "drop role if exists plain; create role plain; grant create, usage on schema atelier to"
        " plain; alter table accounts owner to plain; alter table alembic_version owner to plain;"
        f"{';'.join(insertions(dashes=True))}",
        name,
    )
    yield name
    postgres.server.drop_database(name)
    postgres.server.psql("drop role plain")


def test_accounts_on_postgres_keep_what_was_proved_alone(
    postgres: PostgresStudios, before: str
) -> None:
    _, rest = sql_for_postgres(APP_ROLE).split("-- Running upgrade 0004 -> 0005")
    step, _ = rest.split("-- Running upgrade 0005 -> 0006")
    search = "set local search_path = atelier"
    postgres.server.psql(f"begin; set role plain; {search}; {step}; commit;", before)
    said = postgres.server.psql(f"set search_path = atelier; {SHOWN}", before)
    rows = [line.split("|") for line in said.splitlines() if "|" in line]
    found = {UUID(row[0]): tuple(text or None for text in row[1:]) for row in rows}
    assert found == AFTER
    forced = postgres.server.psql(
        "select relforcerowsecurity from pg_class where relname = 'accounts'"
        " and relnamespace = 'atelier'::regnamespace",
        before,
    )
    assert forced == "t"

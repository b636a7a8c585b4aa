"""Brings a database to today's schema: Alembic, one linear history for SQLite and Postgres."""

import io
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from ...errors import AtelierError, InvalidError, UnavailableError
from ...principal import SYSTEM
from ..postgres import SCHEMA, PostgresDatabase, Waits, parse_url
from ..postgres_errors import code_of, reason, translating
from .roles import prepare, quote, require_usable_login, sql_of_roles

_LOCK = 4_711_203_117_551
"""Anything, but the same for every sidecar: one migrates, the others wait and find it done."""
_NOT_PREPARED = ("22023", "3F000", "42501", "42P01")
"""There is no such role, schema or table, or the login may not use it."""


@dataclass(frozen=True)
class Standing:
    """Where a database is in the history of revisions, and where this version is."""

    found: str | None
    head: str
    is_newer: bool
    """Found one that this version does not know."""

    @property
    def is_head(self) -> bool:
        """Whether the schema is this version's."""
        return self.found == self.head


def migrate(engine: sa.Engine) -> Standing:
    """Apply to SQLite what is missing; how it was before.

    A killed migration is repeated: all is one transaction. InvalidError("database_too_new").
    """
    with engine.begin() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # its driver opens no transaction for DDL
        return _upgrade(connection)


def migrate_postgres(admin_url: str, app_url: str) -> Standing:
    """The same for Postgres, with the roles and schemas around it.

    ``admin_url`` may create roles and schemas; ``app_url`` is what the sidecar will use. One
    transaction under a lock: of two that migrate at once one waits, a killed one leaves nothing.
    InvalidError("database_too_new", "invalid_setting" for a URL that cannot be meant so, or
    "migration_refused"), UnavailableError("database"): with Postgres's own reason.
    """
    engine = sa.create_engine(
        parse_url(admin_url),
        connect_args={"prepare_threshold": None, "connect_timeout": Waits.connect},
        poolclass=sa.NullPool,
    )
    try:
        with engine.begin() as connection:
            connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            prepare(connection, parse_url(app_url))
            connection.exec_driver_sql(f"set local search_path = {SCHEMA}")
            return _upgrade(connection)
    except sa.exc.DBAPIError as error:
        raise _refused(error) from error


def sql_for_postgres(login: str, since: str | None = None) -> str:
    """All of it as SQL text, for the SQL editor of a hosted project.

    For an empty database, or for one at the revision ``since``; on any other it stops before it
    changes anything. InvalidError("invalid_arguments").
    """
    require_usable_login(login)
    script = io.StringIO()
    config = _config()
    config.output_buffer = script
    if since is not None and since not in _known():
        raise InvalidError("invalid_arguments", f"There is no revision {since!r}.")
    command.upgrade(config, "head" if since is None else f"{since}:head", sql=True)
    before = f"BEGIN;\n\n{sql_of_roles(login)}\n{_ONLY_SINCE[since is None].format(since=since)}"
    heading = _HEADING.format(login=quote(login))
    return heading + script.getvalue().replace("BEGIN;", before, 1)


def standing(connection: sa.Connection) -> Standing:
    """Where this database is."""
    schema = SCHEMA if connection.dialect.name == "postgresql" else None
    context = MigrationContext.configure(connection, opts={"version_table_schema": schema})
    return _standing(context.get_current_revision())


def require_head(connection: sa.Connection) -> None:
    """InvalidError("database_not_migrated" or "database_too_new") unless it is this version's."""
    _require_head(standing(connection), on_postgres=connection.dialect.name == "postgresql")


async def require_migrated(database: PostgresDatabase) -> Standing:
    """The same through the sidecar's own login, which may not have been prepared either.

    UnavailableError("database") comes with Postgres's own reason: this is for who runs the studio.
    """
    try:
        async with database.transaction(SYSTEM, read_only=True) as tx:
            found = await tx.connection.run_sync(standing)
    except UnavailableError as error:
        message = f"The database cannot be used: {reason(error)}."
        raise UnavailableError("database", message) from error
    except sa.exc.DBAPIError as error:
        if code_of(error) not in _NOT_PREPARED:
            raise
        found = _standing(None)
    _require_head(found, on_postgres=True)
    return found


# Both read the table of revisions by a name that need not exist: a DO block is parsed when it runs.
_ONLY_SINCE = {
    True: """do $do$
begin
  if to_regclass('atelier.alembic_version') is not null then
    raise exception 'there is a studio in this database already: print the SQL with --since';
  end if;
end
$do$;
""",
    False: """do $do$
begin
  if (select version_num from atelier.alembic_version) is distinct from '{since}' then
    raise exception 'the studio in this database is not at revision {since}';
  end if;
end
$do$;
""",
}
_HEADING = """\
-- Atelier on Postgres. Run it once, as a role that may create roles and schemas.
-- Then give the sidecar's login the password that stands in DATABASE_URL:
--   alter role {login} password '...';

"""


def _standing(found: str | None) -> Standing:
    head = ScriptDirectory.from_config(_config()).get_current_head()
    return Standing(found, str(head), is_newer=found is not None and found not in _known())


def _known() -> set[str]:
    history = ScriptDirectory.from_config(_config())
    return {revision.revision for revision in history.walk_revisions()}


def _require_head(found: Standing, *, on_postgres: bool) -> None:
    if found.is_newer:
        raise _too_new(found)
    if not found.is_head:
        raise InvalidError(
            "database_not_migrated",
            f"The database is at revision {found.found or 'none'}, this version needs "
            f"{found.head}. Run `python -m sidecar migrate`"
            f"{' with DATABASE_ADMIN_URL' if on_postgres else ''}.",
        )


def _upgrade(connection: sa.Connection) -> Standing:
    before = standing(connection)
    if before.is_newer:
        raise _too_new(before)
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return before


def _too_new(found: Standing) -> InvalidError:
    return InvalidError(
        "database_too_new",
        f"The database is at revision {found.found}, which this version does not know: it knows "
        f"{found.head}. Use the version of Atelier that migrated it, or a newer one.",
    )


def _refused(error: sa.exc.DBAPIError) -> AtelierError:
    try:
        with translating():
            raise error
    except UnavailableError:
        return UnavailableError("database", f"The database cannot be used: {reason(error)}.")
    except (AtelierError, sa.exc.DBAPIError):
        return InvalidError(
            "migration_refused", f"The database refuses to be migrated: {reason(error)}."
        )


def _config() -> Config:
    config = Config()
    # configparser reads % as an interpolation
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config

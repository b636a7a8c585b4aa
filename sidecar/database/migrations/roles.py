"""What stands around the tables on Postgres: roles, schemas, and ``auth.uid()`` where it lacks.

Idempotent, and done before the revisions each time: the login's name is the installation's own.
Nothing here needs a superuser: a hosted project's ``postgres`` may create roles and schemas, and
refuses statements that so much as name SUPERUSER or BYPASSRLS.
"""

import psycopg
import sqlalchemy as sa

from ...errors import InvalidError
from ..postgres import ENGINE_SCHEMA, MEMBER_ROLE, SCHEMA, SYSTEM_ROLE, Waits, login_of

_MAX_NAME_BYTES = 63


def prepare(connection: sa.Connection, app_url: sa.URL) -> None:
    """Create what is missing, and give the login the password of ``app_url`` if it needs it.

    InvalidError("invalid_setting") when that login is the role that migrates, or cannot be one.
    """
    login = login_of(app_url)
    if not login or login == connection.execute(sa.text("select current_user")).scalar_one():
        raise InvalidError(
            "invalid_setting",
            "DATABASE_URL is a secret: expected a role of the sidecar's own, not the one of "
            "DATABASE_ADMIN_URL: whoever owns the tables is not bound by row-level security.",
        )
    require_usable_login(login)
    # no_parameters: the driver would take the % of format() for a placeholder
    connection.exec_driver_sql(sql_of_roles(login), execution_options={"no_parameters": True})
    # not each time anew: a pooler keeps what it knows of a password, and its salt, for a while
    if app_url.password and not _lets_in(app_url):
        hashed = _hashed(connection, str(app_url.password), login)
        connection.exec_driver_sql(
            f"alter role {quote(login)} password '{hashed}'",
            execution_options={"no_parameters": True},
        )


def require_usable_login(login: str) -> None:
    """InvalidError("invalid_setting") unless it can be the name of a role, and stand in SQL."""
    if not login.isprintable() or "$" in login or len(login.encode()) > _MAX_NAME_BYTES:
        raise InvalidError(
            "invalid_setting",
            f"The login {login!r} cannot be used: expected at most {_MAX_NAME_BYTES} printable "
            "bytes without a dollar sign.",
        )


def quote(name: str) -> str:
    """As an identifier. SQLAlchemy's own quoting is for its driver: it doubles each %."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def _lets_in(app_url: sa.URL) -> bool:
    """Whether that login may connect already."""
    _, parts = app_url.get_dialect()().create_connect_args(app_url)
    try:
        psycopg.connect(**{**parts, "connect_timeout": Waits.connect}).close()
    except psycopg.OperationalError:
        return False
    return True


def _hashed(connection: sa.Connection, password: str, login: str) -> str:
    """As libpq's own tools do it: neither the server's log nor an error repeats the password."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - tells the type
    return driver.pgconn.encrypt_password(password.encode(), login.encode()).decode()


def sql_of_roles(login: str) -> str:
    """The statements, for this login role."""
    name = quote(login)
    literal = login.replace("'", "''")
    return _SQL.format(
        login=name,
        login_literal=literal,
        member=MEMBER_ROLE,
        system=SYSTEM_ROLE,
        schema=SCHEMA,
        engine=ENGINE_SCHEMA,
    )


# NOINHERIT: a transaction that forgot to take a role may do nothing at all.
# The grant of the login to whoever migrates lets that one make a schema for it (PostgreSQL 16).
_SQL = """
do $do$
begin
  if not exists (select from pg_roles where rolname = '{member}') then
    create role {member} nologin;
  end if;
  if not exists (select from pg_roles where rolname = '{system}') then
    create role {system} nologin;
  end if;
  if not exists (select from pg_roles where rolname = '{login_literal}') then
    create role {login} login noinherit;
  elsif (select rolinherit from pg_roles where rolname = '{login_literal}') then
    alter role {login} noinherit;
  end if;
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('grant %I to %I', '{login_literal}', current_user);
  end if;
  if to_regprocedure('auth.uid()') is null then
    create schema if not exists auth;
    grant usage on schema auth to {member};
    create function auth.uid() returns uuid language sql stable as $uid$
      select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid
    $uid$;
  end if;
end
$do$;

do $do$
begin
  if current_setting('server_version_num')::int >= 160000 then
    -- since then each grant has its own answer to whether it is inherited
    execute format('grant %I, %I to %I with inherit false',
                   '{member}', '{system}', '{login_literal}');
  else
    grant {member}, {system} to {login};
  end if;
end
$do$;

create schema if not exists {schema};
revoke all on schema {schema} from public;
grant usage on schema {schema} to {member}, {system};

create schema if not exists {engine} authorization {login};

set local search_path = {schema};
"""

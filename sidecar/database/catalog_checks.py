"""What the catalogs say about row-level security: each query names holes, a line for each.

They run as the login, without a role: the catalogs are open to everybody. Privileges are asked for
with the server's own functions, which count what comes through memberships and through PUBLIC.
"""

from typing import Final

from .postgres import ENGINE_SCHEMA, MEMBER_ROLE, SCHEMA, SYSTEM_ROLE

ANON: Final = "anon"
"""The role of requests without a token, where Supabase's Data API is."""
REVISIONS: Final = "alembic_version"
"""The one table that is nobody's."""

NAMES: Final = {
    "schema": SCHEMA,
    "engine": ENGINE_SCHEMA,
    "member": MEMBER_ROLE,
    "system": SYSTEM_ROLE,
    "anon": ANON,
    "revisions": REVISIONS,
}
"""The parameters of the queries."""

PRELUDE: Final = """
with ours (who) as (values (:member), (:system)),
outsiders (who) as (
    -- 'public' is how the functions below know PUBLIC
    select rolname::text from pg_roles where rolname = :anon union all select 'public'
),
things as (
    select c.oid, c.relname::text as name, c.relkind as kind, c.reloptions, c.relowner as owner,
        c.relrowsecurity as is_enabled, c.relforcerowsecurity as is_forced,
        (select a.attnum from pg_attribute a where a.attrelid = c.oid
            and a.attname = 'owner_id' and not a.attisdropped) as owner_column
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = :schema and c.relkind not in ('i', 'I', 't')
),
tables as (select * from things where kind in ('r', 'p')),
policies as (
    select p.*, t.name as table_name, t.owner_column is not null as has_owner
    from pg_policy p join tables t on t.oid = p.polrelid
    where p.polpermissive -- the others only take away
)
"""
"""What each of them begins with."""

MISSING: Final = """
select 'role ' || who || ' is missing' from ours
    where not exists (select from pg_roles where rolname = who)
union all
select 'schema ' || :schema || ' is missing'
    where not exists (select from pg_namespace where nspname = :schema)
"""
"""Without these nothing else can be asked."""

SUPERUSER: Final = """
select 'login ' || rolname || ' is a superuser, whom no policy binds'
    from pg_roles where rolname = current_user and rolsuper
"""
"""Such a one is a member of everything: nothing more is worth saying of it."""

LOGIN: Final = (
    """
select 'login ' || rolname || ' has BYPASSRLS' from pg_roles
    where rolname = current_user and rolbypassrls
union all
select 'login ' || rolname || ' may create roles, and so become others' from pg_roles
    where rolname = current_user and rolcreaterole
union all
select 'login ' || rolname || ' may replicate, and so read every row' from pg_roles
    where rolname = current_user and rolreplication
""",
    """
select 'login ' || current_user || ' inherits what ' || rolname || ' may do, so a transaction'
        || ' that forgot its role would not be refused'
    from pg_roles where rolname <> current_user and pg_has_role(current_user, oid, 'USAGE')
    order by rolname
""",
    """
select 'login ' || current_user || ' may become ' || rolname || ', which '
        || case when rolsuper then 'is a superuser'
                when rolbypassrls then 'has BYPASSRLS'
                when rolcreaterole then 'may create roles'
                when rolreplication then 'may replicate'
                else 'reaches around the tables' end
    from pg_roles
    where rolname <> current_user and pg_has_role(current_user, oid, 'MEMBER')
        and (rolsuper or rolbypassrls or rolcreaterole or rolreplication or rolname in
            ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program'))
    order by rolname
""",
    """
select 'login ' || current_user || ' may not become ' || who
    from ours where not pg_has_role(current_user, who::name, 'MEMBER')
""",
    """
select 'login ' || current_user || ' is or may become ' || pg_get_userbyid(owner)
        || ', who owns ' || string_agg(name, ', ' order by name)
    from (
        select owner, name from things
        union all
        select nspowner, 'the schema ' || nspname from pg_namespace where nspname = :schema
        union all
        select p.proowner, n.nspname || '.' || p.proname || '()' from pg_proc p
            join pg_namespace n on n.oid = p.pronamespace
            where n.nspname = :schema or (n.nspname = 'auth' and p.proname = 'uid')
    ) as owned
    where pg_has_role(current_user, owner, 'MEMBER')
    group by owner order by 1
""",
)

SCHEMAS: Final = (
    """
select 'schema ' || nspname || ' is open to ' || who from pg_namespace, outsiders
    where nspname in (:schema, :engine) and has_schema_privilege(who, oid, 'USAGE, CREATE')
    order by 1
""",
    """
select 'schema ' || nspname || ' is open to ' || who from pg_namespace, ours
    where nspname = :engine and has_schema_privilege(who, oid, 'USAGE, CREATE') order by 1
""",
    """
select 'schema ' || nspname || ' lets ' || who || ' create things' from pg_namespace, ours
    where nspname = :schema and has_schema_privilege(who, oid, 'CREATE') order by 1
""",
)

TABLES: Final = (
    """
select 'table ' || name || ': row-level security is not enabled' from tables
    where name <> :revisions and not is_enabled order by 1
""",
    """
select 'table ' || name || ': row-level security is not forced' from tables
    where name <> :revisions and not is_forced order by 1
""",
    """
select 'table ' || name || ': ' || who || ' may ' || privilege
    from tables, ours, (values ('TRUNCATE'), ('TRIGGER'), ('REFERENCES')) as unbound (privilege)
    where has_table_privilege(who, oid, privilege)
        or (privilege = 'REFERENCES' and has_any_column_privilege(who, oid, privilege))
    order by 1
""",
    """
select 'table ' || name || ': something is granted to ' || who from tables, outsiders
    where has_table_privilege(who, oid, 'DELETE, TRUNCATE, TRIGGER')
        or has_any_column_privilege(who, oid, 'SELECT, INSERT, UPDATE, REFERENCES')
    order by 1
""",
    # an account, and which revision the tables are at, is nothing that a member changes
    """
select 'table ' || name || ': ' || :member || ' may change it' from tables
    where owner_column is null and (has_table_privilege(:member, oid, 'DELETE')
        or has_any_column_privilege(:member, oid, 'INSERT, UPDATE'))
    order by 1
""",
    """
select 'table ' || name || ': ' || who || ' may ' || command || ', and no policy says of which rows'
    from tables, ours, (values ('SELECT', 'r'), ('INSERT', 'a'), ('UPDATE', 'w'), ('DELETE', 'd'))
        as commands (command, letter)
    where name <> :revisions
        and case command when 'DELETE' then has_table_privilege(who, oid, command)
            else has_any_column_privilege(who, oid, command) end
        and not exists (select from policies p where p.polrelid = tables.oid
            and p.polcmd::text in (letter, '*')
            and (select r.oid from pg_roles r where rolname = who) = any (p.polroles))
    order by 1
""",
)

AROUND: Final = (
    """
select 'view ' || name || ' shows what its owner sees: it lacks security_invoker' from things
    where kind = 'v' and not coalesce((select option_value::boolean
        from pg_options_to_table(reloptions) where option_name = 'security_invoker'), false)
    order by 1
""",
    """
select case kind when 'm' then 'materialized view ' else 'foreign table ' end || name
        || ' has no row-level security'
    from things where kind in ('m', 'f') order by 1
""",
    """
select 'function ' || proname || ' acts as its owner, and ' || who || ' may call it'
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace, ours
    where n.nspname = :schema and prosecdef and has_function_privilege(who, p.oid, 'EXECUTE')
    order by 1
""",
    """
select 'table ' || child.name || ': its reference ' || conname || ' to ' || parent.name
        || ' does not carry the owner'
    from pg_constraint k join tables child on child.oid = k.conrelid
        join tables parent on parent.oid = k.confrelid
    where k.contype = 'f' and parent.owner_column is not null and not exists (
        select from unnest(k.conkey, k.confkey) as pair (mine, theirs)
            where mine = child.owner_column and theirs = parent.owner_column)
    order by 1
""",
)

POLICIES: Final = """
select table_name, polname as name, polcmd::text as command, has_owner,
        pg_get_expr(polqual, polrelid) as sees, pg_get_expr(polwithcheck, polrelid) as leaves,
        (select array_agg(case r when 0 then 'PUBLIC' else pg_get_userbyid(r)::text end order by r)
            from unnest(polroles) as r) as roles,
        exists (select from unnest(polroles) as r where r <> 0
            and pg_get_userbyid(r) not in (select who from ours)
            and pg_has_role(current_user, r, 'MEMBER')) as is_of_another
    from policies order by 1, 2
"""

THINGS: Final = """
select name, kind::text, owner_column is not null as has_owner,
        has_any_column_privilege(:member, oid, 'SELECT') as is_read
    from things where kind in ('r', 'p', 'v', 'm', 'f') order by 1
"""
"""Everything that rows can be read from."""

REFERENCES: Final = """
select t.name, (select array_agg(a.attname::text order by pair.place)
            from unnest(k.conkey) with ordinality as pair (number, place)
            join pg_attribute a on a.attrelid = t.oid and a.attnum = pair.number) as columns
    from pg_constraint k join tables t on t.oid = k.conrelid where k.contype = 'f'
"""
"""Which columns of which table refer to something."""

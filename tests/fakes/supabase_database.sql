-- A plain PostgreSQL in the shape of a Supabase project's: its roles, its auth schema, one user.
--
-- For tests alone, as a superuser, in an empty database. Roles belong to the server, so this may be
-- run in several databases of one. What is here follows Supabase's public migrations in behaviour;
-- PostgREST, the Auth server and the hosted extensions are not here.

do $do$
declare
  wanted constant text[][] := array[
    ['anon', 'nologin'],                        -- the Data API without a token
    ['authenticated', 'nologin'],               -- and with one
    ['service_role', 'nologin bypassrls'],      -- and with the secret key
    ['authenticator', 'login noinherit'],       -- what the Data API logs in as
    ['supabase_auth_admin', 'login noinherit createrole'],
    -- what a project calls postgres: it makes roles and schemas, and is no superuser
    ['project_admin', 'login createrole createdb bypassrls']
  ];
  each text[];
begin
  foreach each slice 1 in array wanted loop
    if not exists (select from pg_roles where rolname = each[1]) then
      execute format('create role %I %s', each[1], each[2]);
    end if;
  end loop;
  execute format('grant create on database %I to project_admin', current_database());
end
$do$;

grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role to project_admin with admin option;
alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';

-- everything in public is open to the Data API, also what will be made there
grant usage, create on schema public to project_admin;
grant usage on schema public to anon, authenticated, service_role;
alter default privileges for role project_admin in schema public
  grant all on tables to anon, authenticated, service_role;

create schema auth authorization supabase_auth_admin;
grant usage on schema auth to anon, authenticated, service_role, project_admin;

set role supabase_auth_admin;

create table auth.users (
  id uuid primary key,
  email text,
  encrypted_password text,
  raw_user_meta_data jsonb
);
alter table auth.users enable row level security;
insert into auth.users
  values ('11111111-1111-4111-8111-111111111111', 'ann@example.org', 'a hash', '{"x": 1}');

-- the older setting with one claim wins where it is set
create function auth.uid() returns uuid language sql stable as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim.sub', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
  )::uuid
$$;

create function auth.role() returns text language sql stable as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim.role', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role')
  )::text
$$;

reset role;
grant select, references on auth.users to project_admin;

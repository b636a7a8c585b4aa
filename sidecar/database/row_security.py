"""Whether row-level security really binds: by the catalogs, and by trying.

A policy that the sidecar's own login is not bound by is decoration. So this asks as that login, for
every way around that Postgres has, and then tries to read somebody else's row.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ..clock import NewId, new_id
from ..errors import InvalidError
from ..principal import Principal
from . import catalog_checks as checks
from .postgres import MEMBER_ROLE, SCHEMA, PostgresDatabase
from .postgres_errors import code_of, reason
from .tables import loras, metadata, workflows

_DENIED = "42501"
_NO_ROLE = "22023"
_NEVER = "false"
_GRANTED = "((s.grantee_id IS NULL) OR (s.grantee_id = ( SELECT auth.uid() AS uid)))"
_SHARED = {
    "comfyui_lora_shares": _GRANTED.replace("s.", ""),
    **{
        table: "(EXISTS ( SELECT\n   FROM atelier.comfyui_lora_shares s\n"
        f"  WHERE ((s.lora_id = {table}.{key}) AND {_GRANTED})))"
        for table, key in (("comfyui_lora_models", "id"), ("comfyui_lora_versions", "lora_id"))
    },
}
"""What shows rows of others to whom they are shared with, word for word as Postgres writes it."""
_WHENEVER = datetime(2000, 1, 1, tzinfo=timezone.utc)


async def require_binding(database: PostgresDatabase) -> None:
    """InvalidError("row_security_does_not_bind") with every hole, in one line and in details."""
    found = [*await holes(database), *await probe(database)]
    if found:
        raise InvalidError(
            "row_security_does_not_bind",
            f"Row-level security does not bind: {'; '.join(found)}.",
            {"holes": found},
        )


async def holes(database: PostgresDatabase) -> list[str]:
    """Every way around row-level security that the catalogs tell of; a line for each."""
    async with database.as_login() as connection:
        # names in expressions are then written in full
        await connection.execute(sa.text("select set_config('search_path', 'pg_catalog', true)"))
        if missing := await _lines(connection, checks.MISSING):
            return missing
        superuser = await _lines(connection, checks.SUPERUSER)
        queries = [*checks.SCHEMAS, *checks.TABLES, *checks.AROUND]
        found = superuser or await _lines(connection, *checks.LOGIN)
        return [
            *found,
            *await _lines(connection, *queries),
            *await _of_tables(connection),
            *await _of_policies(connection),
        ]


async def probe(database: PostgresDatabase, new_id: NewId = new_id) -> list[str]:
    """What row-level security lets through when it is tried; nothing of it stays.

    Somebody who does not exist makes a workflow and a LoRA; somebody else then looks into every
    table, and tries to change what is there and to make one more for the first.
    """
    ann, ben = Principal(new_id()), Principal(new_id())
    async with database.as_login() as connection:
        read = [each.name for each in await _rows(connection, checks.THINGS) if each.is_read]
        # other accounts may have millions of rows: look by the index on the owner, as stores do
        await connection.execute(sa.text("select set_config('enable_seqscan', 'off', true)"))
        try:
            await database.become(connection, ann)
        except sa.exc.DBAPIError as error:
            if code_of(error) not in (_DENIED, _NO_ROLE):
                raise
            return [f"tried: {reason(error)}"]
        found = []
        for row in (_new_workflow(ann, new_id), _new_lora(ann, new_id)):
            if not await _may(connection, row):
                found.append(f"tried: {MEMBER_ROLE} cannot insert into {row.table.name} for itself")
        await database.become(connection, ben)
        found += [f"tried: {line}" for line in await _reach(connection, read, ann, new_id)]
        await database.become(connection, ann)
        for name in (workflows.name, loras.name):
            if not found and not await _sees(connection, name, ann):
                found.append(f"tried: {MEMBER_ROLE} does not see its own row in {name}")
        return found


async def _reach(
    connection: AsyncConnection, read: list[str], other: Principal, new_id: NewId
) -> list[str]:
    """What somebody gets at of another's."""
    found = [
        f"somebody without a row saw one in {name}"
        for name in read
        if await _sees(connection, name, other)
    ]
    if await _may(connection, workflows.update().values(description="taken")):
        found.append(f"somebody changed another's row in {workflows.name}")
    if await _may(connection, _new_workflow(other, new_id)):
        found.append(f"somebody inserted a row for another into {workflows.name}")
    return found


def _new_workflow(owner: Principal, new_id: NewId) -> sa.Insert:
    workflow_id = new_id()
    return workflows.insert().values(
        id=workflow_id,
        owner_id=owner.id,
        name=f"never committed {workflow_id}",
        tags=[],
        head_version=1,
        created_at=_WHENEVER,
        updated_at=_WHENEVER,
    )


def _new_lora(owner: Principal, new_id: NewId) -> sa.Insert:
    lora_id = new_id()
    return loras.insert().values(
        id=lora_id,
        owner_id=owner.id,
        name=f"never committed {lora_id}",
        stem=f"never committed {lora_id}",
        tags=[],
        trigger_words=[],
        head_version=0,
        created_at=_WHENEVER,
        updated_at=_WHENEVER,
    )


async def _sees(connection: AsyncConnection, name: str, owner: Principal) -> bool:
    """Whether this table shows any row at all; one of the owner's, where others may be shared."""
    table = sa.table(name, sa.column("owner_id", sa.Uuid), schema=SCHEMA)
    rows = sa.select(sa.literal(1)).select_from(table).limit(1)
    if name in _SHARED:
        rows = rows.where(table.c.owner_id == owner.id)
    return await _may(connection, rows)


async def _may(connection: AsyncConnection, statement: sa.Executable) -> bool:
    """Whether the statement is allowed, and concerns a row."""
    try:
        async with connection.begin_nested():
            done = await connection.execute(
                statement, execution_options={"preserve_rowcount": True}
            )
            return done.rowcount > 0
    except sa.exc.DBAPIError as error:
        if code_of(error) != _DENIED:
            raise
        return False


async def _of_tables(connection: AsyncConnection) -> list[str]:
    """Tables and references that should be there, and tables without an owner."""
    standing = await _rows(connection, checks.THINGS)
    there = {each.name for each in standing}
    found = [f"table {name} is missing" for name in sorted(set(metadata.tables) - there)]
    expected = {name for name, table in metadata.tables.items() if "owner_id" not in table.c}
    for each in standing:
        is_ours = each.kind in "rp" and each.name not in {*expected, checks.REVISIONS}
        if is_ours and not each.has_owner:
            found.append(f"table {each.name} has no owner_id")
    references = await _rows(connection, checks.REFERENCES)
    refers = {(each.name, tuple(each.columns)) for each in references}
    for name, table in sorted(metadata.tables.items()):
        for constraint in table.foreign_key_constraints:
            columns = tuple(constraint.column_keys)
            if name in there and (name, columns) not in refers:
                parent = constraint.referred_table.name
                found.append(f"table {name}: ({', '.join(columns)}) does not refer to {parent}")
    return found


async def _of_policies(connection: AsyncConnection) -> list[str]:
    policies = await _rows(connection, checks.POLICIES)
    flaws = [
        f"table {policy.table_name}: policy {policy.name} {flaw}"
        for policy in policies
        for flaw in _flaws(policy)
    ]
    return [*flaws, *_missing(policies)]


def _missing(policies: Sequence[sa.Row[Any]]) -> Iterator[str]:
    """What is not to be seen where two policies say which rows are."""
    for table, shared in _SHARED.items():
        seen = {
            each.sees
            for each in policies
            if each.table_name == table and each.command == "r" and MEMBER_ROLE in each.roles
        }
        if seen == {shared}:
            yield f"table {table}: no policy shows one's own rows"
        elif seen and shared not in seen:
            yield f"table {table}: no policy shows what is shared"


def _flaws(policy: sa.Row[Any]) -> Iterator[str]:
    if "PUBLIC" in policy.roles:
        yield "is for everybody"
    elif checks.ANON in policy.roles:
        yield f"is for {checks.ANON}"
    if policy.is_of_another:
        yield f"is for {', '.join(policy.roles)}, which the login may become"
    if not {"PUBLIC", MEMBER_ROLE} & set(policy.roles):
        return
    if policy.command == "r" and policy.sees == _SHARED.get(policy.table_name):
        return
    if policy.command != "a" and not _binds(policy.sees, has_owner=policy.has_owner):
        yield "shows rows of others"
    # an UPDATE without a check of its own checks by what it sees
    leaves = policy.sees if policy.leaves is None and policy.command in "w*" else policy.leaves
    if policy.command in "aw*" and not _binds(leaves, has_owner=policy.has_owner):
        yield "lets rows of others be written"


def _binds(expression: str | None, *, has_owner: bool) -> bool:
    """Whether it begins with the owner, and only narrows that.

    Postgres writes each AND and OR in parentheses of its own, so what follows the first condition
    cannot be an OR at the same level.
    """
    owner = "owner_id" if has_owner else "id"
    mine = f"({owner} = ( SELECT auth.uid() AS uid))"
    return expression is not None and (
        expression in (mine, _NEVER) or expression.startswith(f"({mine} AND ")
    )


async def _lines(connection: AsyncConnection, *queries: str) -> list[str]:
    return [str(row[0]) for query in queries for row in await _rows(connection, query)]


async def _rows(connection: AsyncConnection, query: str) -> list[sa.Row[Any]]:
    text = checks.PRELUDE + query
    names = {name: value for name, value in checks.NAMES.items() if f":{name}" in text}
    return list((await connection.execute(sa.text(text), names)).all())

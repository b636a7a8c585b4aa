"""The SQL of workflows and their versions. Every statement names the owner."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from ..database import Transaction
from ..database.pages import Cursor, Page, cut, has_tag, newest_first
from ..database.tables import workflow_versions as versions
from ..database.tables import workflows
from ..errors import ConflictError
from .models import Body, StoredVersion, VersionSummary, Workflow, WorkflowQuery

_WORKFLOW = (
    workflows.c.id,
    workflows.c.name,
    workflows.c.description,
    workflows.c.tags,
    workflows.c.head_version,
    workflows.c.created_at,
    workflows.c.updated_at,
)
_SUMMARY = (
    versions.c.version,
    versions.c.sha256,
    versions.c.author_id,
    versions.c.note,
    versions.c.created_at,
)
_BODY = (versions.c.workflow_json, versions.c.graph, versions.c.inputs)


class WorkflowStore:
    """One person's workflows, inside that person's transaction. Deleted ones are not there."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._owner = tx.principal.id

    async def add(self, workflow: Workflow) -> None:
        """Insert it. ConflictError("name_taken")."""
        values = {**asdict(workflow), "owner_id": self._owner}
        with self._tx.unique_or(_name_taken(workflow.name)):
            await self._tx.execute(workflows.insert().values(values))

    async def save(self, workflow: Workflow) -> None:
        """Write every field of one that ``get_to_change`` gave. ConflictError("name_taken")."""
        values = asdict(workflow)
        del values["id"], values["created_at"]
        change = workflows.update().where(*self._mine(workflow.id)).values(values)
        with self._tx.unique_or(_name_taken(workflow.name)):
            await self._tx.execute(change)

    async def get(self, workflow_id: UUID) -> Workflow | None:
        """One, or None."""
        found = await self._tx.execute(sa.select(*_WORKFLOW).where(*self._mine(workflow_id)))
        return _workflow(found.one_or_none())

    async def get_to_change(self, workflow_id: UUID) -> Workflow | None:
        """One, or None; nobody else changes it before this transaction ends."""
        query = sa.select(*_WORKFLOW).where(*self._mine(workflow_id)).with_for_update()
        return _workflow((await self._tx.execute(query)).one_or_none())

    async def page(self, asked: WorkflowQuery) -> Page[Workflow]:
        """Newest first, without any version."""
        query = sa.select(*_WORKFLOW).where(
            self._tx.mine(workflows), workflows.c.deleted_at.is_(None)
        )
        if asked.q is not None:
            query = query.where(
                workflows.c.name.icontains(asked.q, autoescape=True)
                | workflows.c.description.icontains(asked.q, autoescape=True)
            )
        if asked.tag is not None:
            query = query.where(has_tag(workflows.c.tags, asked.tag))
        rows = (await self._tx.execute(newest_first(query, workflows, asked))).all()
        return cut([Workflow(**row._mapping) for row in rows], asked, _place)

    async def delete(self, workflow_id: UUID, at: datetime) -> bool:
        """Mark it deleted; whether it was there."""
        change = workflows.update().where(*self._mine(workflow_id)).values(deleted_at=at)
        return (await self._tx.execute(change)).rowcount == 1

    async def add_version(self, workflow_id: UUID, stored: StoredVersion) -> None:
        """Insert a version; versions are never updated."""
        values = {
            **asdict(stored.summary),
            "workflow_json": stored.body.workflow_json,
            "graph": stored.body.graph,
            "inputs": stored.body.inputs,
            "workflow_id": workflow_id,
            "owner_id": self._owner,
        }
        await self._tx.execute(versions.insert().values(values))

    async def version(self, workflow_id: UUID, version: int) -> StoredVersion | None:
        """One version with its body, or None."""
        query = sa.select(*_SUMMARY, *_BODY).where(
            *self._versions_of(workflow_id), versions.c.version == version
        )
        row = (await self._tx.execute(query)).one_or_none()
        if row is None:
            return None
        values = dict(row._mapping)
        body = Body(**{column.name: values.pop(column.name) for column in _BODY})
        return StoredVersion(VersionSummary(**values), body)

    async def versions(
        self, workflow_id: UUID, before: int | None, limit: int
    ) -> Sequence[VersionSummary]:
        """Up to ``limit`` versions below ``before``, newest first, without bodies."""
        query = sa.select(*_SUMMARY).where(*self._versions_of(workflow_id))
        if before is not None:
            query = query.where(versions.c.version < before)
        query = query.order_by(versions.c.version.desc()).limit(limit)
        rows = (await self._tx.execute(query)).all()
        return [VersionSummary(**row._mapping) for row in rows]

    def _mine(self, workflow_id: UUID) -> tuple[sa.ColumnElement[bool], ...]:
        return (
            self._tx.mine(workflows),
            workflows.c.id == workflow_id,
            workflows.c.deleted_at.is_(None),
        )

    def _versions_of(self, workflow_id: UUID) -> tuple[sa.ColumnElement[bool], ...]:
        return self._tx.mine(versions), versions.c.workflow_id == workflow_id


def _workflow(row: sa.Row[Any] | None) -> Workflow | None:
    return None if row is None else Workflow(**row._mapping)


def _place(workflow: Workflow) -> Cursor:
    return Cursor(workflow.created_at, workflow.id)


def _name_taken(name: str) -> ConflictError:
    return ConflictError(
        "name_taken", f"You already have a workflow named '{name}'.", {"name": name}
    )

"""The use-cases of workflows: every save is a version, and nothing saved is lost."""

import asyncio
import hashlib
import json
from dataclasses import replace
from uuid import UUID

from pydantic import TypeAdapter

from ..clock import Clock, NewId
from ..database import Database
from ..database.pages import Page, PageQuery
from ..errors import ConflictError, InvalidError, NotFoundError
from ..principal import Principal
from .graph import DeclaredInput, is_finite, refuse_unknown_targets, require_prompt
from .models import (
    MAX_VERSION,
    Body,
    StoredVersion,
    VersionSummary,
    Workflow,
    WorkflowOrder,
    WorkflowQuery,
    WorkflowReplacement,
    WorkflowVersion,
)
from .store import WorkflowStore

_declared_inputs = TypeAdapter(tuple[DeclaredInput, ...])


class WorkflowService:
    """One person's workflows. Someone else's are NotFoundError, as if they did not exist."""

    def __init__(self, database: Database, clock: Clock, new_id: NewId) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id

    async def add(
        self, principal: Principal, order: WorkflowOrder
    ) -> tuple[Workflow, StoredVersion]:
        """Store a workflow; its first version is 1.

        InvalidError as ``require_prompt`` and ``refuse_unknown_targets`` raise it,
        ConflictError("name_taken").
        """
        body = await asyncio.to_thread(_checked, order)
        now = self._clock.now()
        workflow = Workflow(
            self._new_id(), order.name, order.description, _tags(order), 1, now, now
        )
        first = self._version(principal, 1, body, note="")
        async with self._database.transaction(principal) as tx:
            store = WorkflowStore(tx)
            await store.add(workflow)
            await store.add_version(workflow.id, first)
        return workflow, first

    async def page(self, principal: Principal, asked: WorkflowQuery) -> Page[Workflow]:
        """The caller's workflows, newest first."""
        async with self._database.transaction(principal, read_only=True) as tx:
            return await WorkflowStore(tx).page(asked)

    async def get(
        self, principal: Principal, workflow_id: UUID, version: int | None
    ) -> tuple[Workflow, StoredVersion]:
        """A workflow with one version, by default the newest. NotFoundError."""
        async with self._database.transaction(principal, read_only=True) as tx:
            store = WorkflowStore(tx)
            workflow = _found(await store.get(workflow_id))
            return workflow, await _stored(store, workflow, version or workflow.head_version)

    async def replace(
        self, principal: Principal, workflow_id: UUID, order: WorkflowReplacement
    ) -> tuple[Workflow, StoredVersion]:
        """Replace everything; a changed body becomes the new head.

        ConflictError("stale_version") when ``base_version`` is not the head: somebody saved since.
        """
        body = await asyncio.to_thread(_checked, order)
        async with self._database.transaction(principal) as tx:
            store = WorkflowStore(tx)
            workflow = _found(await store.get_to_change(workflow_id))
            if order.base_version not in (None, workflow.head_version):
                raise ConflictError(
                    "stale_version",
                    f"Version {workflow.head_version} was saved after version "
                    f"{order.base_version}, which this save started from.",
                    {"base_version": order.base_version, "head_version": workflow.head_version},
                )
            described = replace(
                workflow, name=order.name, description=order.description, tags=_tags(order)
            )
            return await self._save(store, principal, described, body, note="")

    async def restore(
        self, principal: Principal, workflow_id: UUID, version: int
    ) -> tuple[Workflow, StoredVersion]:
        """Make a new head of an old version, unless the head holds the same already."""
        async with self._database.transaction(principal) as tx:
            store = WorkflowStore(tx)
            workflow = _found(await store.get_to_change(workflow_id))
            old = await _stored(store, workflow, version)
            return await self._save(
                store, principal, workflow, old.body, note=f"Restored version {version}."
            )

    async def delete(self, principal: Principal, workflow_id: UUID) -> None:
        """Delete it; its runs stay, and its name is free again. NotFoundError."""
        async with self._database.transaction(principal) as tx:
            if not await WorkflowStore(tx).delete(workflow_id, self._clock.now()):
                raise NotFoundError("workflow")

    async def versions(
        self, principal: Principal, workflow_id: UUID, asked: PageQuery
    ) -> Page[VersionSummary]:
        """Its versions, newest first. The cursor is the last version shown."""
        before = None if asked.cursor is None else _version_cursor(asked.cursor)
        async with self._database.transaction(principal, read_only=True) as tx:
            store = WorkflowStore(tx)
            workflow = _found(await store.get(workflow_id))
            found = await store.versions(workflow.id, before, asked.limit + 1)
        shown = found[: asked.limit]
        return Page(shown, str(shown[-1].version) if len(found) > asked.limit else None)

    async def for_run(
        self, principal: Principal, workflow_id: UUID, version: int | None
    ) -> WorkflowVersion:
        """What a run needs of a version, by default the newest. NotFoundError."""
        workflow, stored = await self.get(principal, workflow_id, version)
        return WorkflowVersion(
            workflow.id,
            stored.summary.version,
            workflow.name,
            require_prompt(stored.body.workflow_json),
            stored.body.graph,
            _declared_inputs.validate_python(stored.body.inputs),
        )

    async def _save(
        self, store: WorkflowStore, principal: Principal, workflow: Workflow, body: Body, note: str
    ) -> tuple[Workflow, StoredVersion]:
        """Write the workflow, with ``body`` as its head: the same version if nothing changed."""
        changed = replace(workflow, updated_at=self._clock.now())
        head = await _stored(store, workflow, workflow.head_version)
        if _sha256(body) != head.summary.sha256:
            head = self._version(principal, workflow.head_version + 1, body, note)
            await store.add_version(workflow.id, head)
            changed = replace(changed, head_version=head.summary.version)
        await store.save(changed)
        return changed, head

    def _version(self, author: Principal, version: int, body: Body, note: str) -> StoredVersion:
        summary = VersionSummary(version, _sha256(body), author.id, note, self._clock.now())
        return StoredVersion(summary, body)


def _checked(order: WorkflowOrder) -> Body:
    """The order's body, once it is known to be a prompt that its inputs fit."""
    prompt = require_prompt(order.workflow_json)
    refuse_unknown_targets(prompt, order.inputs)
    body = order.body
    unstorable = [
        name
        for name, value in (("workflow_json", body.workflow_json), ("graph", body.graph))
        if not is_finite(value)
    ]
    if unstorable:
        fields = dict.fromkeys(unstorable, "holds NaN or an infinite number")
        raise InvalidError("invalid_body", "Some fields cannot be accepted.", {"fields": fields})
    return body


def _sha256(body: Body) -> str:
    canonical = json.dumps(
        {"workflow_json": body.workflow_json, "graph": body.graph, "inputs": body.inputs},
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def _tags(order: WorkflowOrder) -> list[str]:
    """Each once, in the order given."""
    return list(dict.fromkeys(order.tags))


def _found(workflow: Workflow | None) -> Workflow:
    if workflow is None:
        raise NotFoundError("workflow")
    return workflow


async def _stored(store: WorkflowStore, workflow: Workflow, version: int) -> StoredVersion:
    stored = await store.version(workflow.id, version)
    if stored is None:
        raise NotFoundError("workflow_version")
    return stored


def _version_cursor(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= MAX_VERSION:
        return int(text)
    raise InvalidError(
        "invalid_cursor", "This cursor did not come from this list.", {"field": "cursor"}
    )

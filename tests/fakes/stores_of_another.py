"""Calls every method of every store as somebody, with another's ids.

A new method has no entry here, and the suite fails until somebody has thought about it.
"""

import importlib
import inspect
import pkgutil
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from asked_as_another import MADE
from two_people import Things, never, owner_of

import sidecar
from sidecar.accounts.models import ApiToken
from sidecar.accounts.store import (
    AccountDirectory,
    CredentialDirectory,
    OwnAccount,
    SessionStore,
    TokenStore,
)
from sidecar.clock import SystemClock
from sidecar.database import Database, Transaction
from sidecar.database.pages import PageQuery
from sidecar.database.tables import metadata
from sidecar.errors import AtelierError
from sidecar.loras.models import Lora, Share, VersionState
from sidecar.loras.names import lora_name
from sidecar.loras.store import LoraStore
from sidecar.loras.store.held import HeldStore
from sidecar.loras.store.objects import LibraryOwners, ObjectStore
from sidecar.loras.store.shares import SharedLoras, ShareStore
from sidecar.loras.store.uses import UseStore
from sidecar.loras.views import LoraQuery
from sidecar.principal import Principal
from sidecar.runs.models import UNFINISHED, Run
from sidecar.runs.store import RunQueue, RunStore
from sidecar.runs.views import RunQuery
from sidecar.uploads.models import Upload, UploadState
from sidecar.uploads.store import PairsUploads, UploadStore
from sidecar.workflows.models import StoredVersion, Workflow, WorkflowQuery
from sidecar.workflows.store import WorkflowStore

ACROSS = {AccountDirectory, CredentialDirectory, RunQueue, HeldStore, LibraryOwners, PairsUploads}
"""Everybody's rows, for the sidecar itself: opened in its own transactions alone."""
NOW = datetime.now(timezone.utc)
LATER = NOW + timedelta(days=365)


@dataclass(frozen=True)
class Held:
    """Somebody's things as the stores give and take them."""

    named: Things
    workflow: Workflow
    stored: StoredVersion
    lora: Lora
    run: Run

    def id_of(self, name: str) -> UUID:
        """The id of one of the things."""
        return UUID(getattr(self.named, name))


async def held_by(database: Database, owner: Principal, named: Things) -> Held:
    """Read them as their owner."""
    async with database.transaction(owner) as tx:
        workflows, loras = WorkflowStore(tx), LoraStore(tx)
        workflow = await workflows.get(UUID(named.workflow))
        stored = await workflows.version(UUID(named.workflow), 1)
        lora = await loras.get(UUID(named.lora))
        run = await RunStore(tx).get(UUID(named.run))
        assert workflow is not None
        assert stored is not None
        assert lora is not None
    return Held(named, workflow, stored, lora, run)


def nothing_like(held: Held) -> Held:
    """The same under names that nothing has."""
    named = never(held.named)
    lora_id = UUID(named.lora)
    head = replace(held.lora.head, lora_id=lora_id, sha256="f" * 64, object_key=named.object_key)
    head = replace(head, filename=PurePosixPath(named.path).name)
    return Held(
        named,
        replace(held.workflow, id=UUID(named.workflow), name=named.workflow_name),
        held.stored,
        replace(held.lora, id=lora_id, name=named.lora_name, stem=named.lora_name, head=head),
        replace(
            held.run,
            id=UUID(named.run),
            workflow_id=UUID(named.workflow),
            idempotency_key=named.key,
        ),
    )


Call = Callable[[Held], Sequence[Any]]

CALLS: Mapping[tuple[type, str], Call] = {
    # a workflow and a run get their ids from us: what another may have is their names and keys
    (WorkflowStore, "add"): lambda h: [replace(h.workflow, id=uuid4())],
    (WorkflowStore, "save"): lambda h: [replace(h.workflow, description="taken")],
    (WorkflowStore, "get"): lambda h: [h.workflow.id],
    (WorkflowStore, "get_to_change"): lambda h: [h.workflow.id],
    (WorkflowStore, "page"): lambda h: [WorkflowQuery(q=h.named.workflow_name)],
    (WorkflowStore, "delete"): lambda h: [h.workflow.id, NOW],
    (WorkflowStore, "add_version"): lambda h: [
        h.workflow.id,
        replace(h.stored, summary=replace(h.stored.summary, version=99)),
    ],
    (WorkflowStore, "version"): lambda h: [h.workflow.id, 1],
    (WorkflowStore, "versions"): lambda h: [h.workflow.id, None, 10],
    (LoraStore, "get"): lambda h: [h.lora.id],
    (LoraStore, "page"): lambda h: [LoraQuery(tag=h.named.tag)],
    (LoraStore, "names"): lambda _: [],
    (LoraStore, "by_stem"): lambda h: [[h.lora.stem]],
    (LoraStore, "by_filename"): lambda h: [[h.lora.head.filename]],
    (LoraStore, "version"): lambda h: [h.lora.id, 1],
    (LoraStore, "versions"): lambda h: [h.lora.id],
    (LoraStore, "with_sha256"): lambda h: [h.lora.id, h.lora.head.sha256],
    (LoraStore, "sha256s_called"): lambda h: [h.lora.head.filename],
    (LoraStore, "kept"): lambda _: [],
    (LoraStore, "with_stem"): lambda h: [h.lora.stem],
    (LoraStore, "stem_of"): lambda h: [h.lora.id],
    (LoraStore, "add"): lambda h: [lora_name(h.lora.name), uuid4(), NOW],
    (LoraStore, "add_version"): lambda h: [h.lora.head, "upload", None],
    (LoraStore, "set_bytes"): lambda h: [h.lora.head, "taken", VersionState.DAMAGED],
    (LoraStore, "make_head"): lambda h: [replace(h.lora.head, version=1), NOW],
    (LoraStore, "edit"): lambda h: [h.lora.id, NOW, None, "taken", None],
    (LoraStore, "delete"): lambda h: [h.lora.id],
    (LoraStore, "delete_version"): lambda h: [h.lora.id, 1],
    (ShareStore, "of"): lambda h: [h.lora.id],
    (ShareStore, "replace"): lambda h: [h.lora.id, [Share(uuid4(), True)], SystemClock(), uuid4],
    (SharedLoras, "get"): lambda h: [h.lora.id],
    (SharedLoras, "names"): lambda _: [],
    (SharedLoras, "by_stem"): lambda h: [[h.lora.stem]],
    (SharedLoras, "by_filename"): lambda h: [[h.lora.head.filename]],
    (SharedLoras, "version"): lambda h: [h.lora.id, 1],
    (SharedLoras, "versions"): lambda h: [h.lora.id],
    (SharedLoras, "page"): lambda h: [LoraQuery(tag=h.named.tag)],
    (UseStore, "runs"): lambda h: [h.lora.id, 2],
    (UseStore, "workflows"): lambda h: [h.lora.id, 2],
    (UploadStore, "add"): lambda h: [
        Upload(
            uuid4(),
            uuid4(),
            "here",
            1,
            {"name": h.named.lora_name},
            UploadState.RECEIVING,
            NOW,
            LATER,
        )
    ],
    (UploadStore, "get"): lambda h: [h.id_of("upload")],
    (UploadStore, "newest"): lambda _: [],
    (UploadStore, "unfinished"): lambda _: [],
    (UploadStore, "change"): lambda h: [h.id_of("upload"), list(UploadState)],
    (UploadStore, "delete"): lambda h: [h.id_of("upload")],
    (ObjectStore, "versions"): lambda _: [],
    (RunStore, "there"): lambda h: [[h.run.id]],
    (RunStore, "add"): lambda h: [replace(h.run, id=uuid4())],
    (RunStore, "get"): lambda h: [h.run.id],
    (RunStore, "by_idempotency_key"): lambda h: [h.named.key],
    (RunStore, "page"): lambda h: [RunQuery(workflow_id=h.workflow.id)],
    (RunStore, "unfinished"): lambda _: [],
    (RunStore, "count_unfinished"): lambda _: [],
    (RunStore, "change"): lambda h: [h.id_of("queued"), UNFINISHED],
    (RunStore, "delete"): lambda h: [h.run.id],
    (RunStore, "add_event"): lambda h: [h.run.id, "status", {}, NOW],
    (RunStore, "events"): lambda h: [h.run.id, 0],
    (OwnAccount, "get"): lambda _: [],
    (OwnAccount, "spent"): lambda _: [],
    (SessionStore, "page"): lambda _: [PageQuery(), NOW],
    (SessionStore, "end"): lambda h: [h.id_of("session")],
    (SessionStore, "end_others"): lambda _: [None],
    (TokenStore, "add"): lambda h: [
        ApiToken(uuid4(), h.named.token_name, ["runs:read"], NOW, None),
        uuid4().hex,
    ],
    (TokenStore, "get"): lambda h: [h.id_of("token")],
    (TokenStore, "page"): lambda _: [PageQuery()],
    (TokenStore, "delete"): lambda h: [h.id_of("token")],
}
WITH: Mapping[tuple[type, str], Mapping[str, Any]] = {
    (RunStore, "change"): {"worker_id": "taken"},
    (UploadStore, "change"): {"expires_at": LATER},
    (SharedLoras, "page"): {"with_own": True},
}


def stores() -> set[type]:
    """Every class of a store's module that is built on a transaction alone."""
    found = set()
    for module in pkgutil.walk_packages(sidecar.__path__, "sidecar."):
        if ".store" not in module.name:
            continue
        for _, each in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            ours = each.__module__.startswith(module.name)
            if ours and list(inspect.signature(each).parameters) == ["tx"]:
                found.add(each)
    return found


def methods(store: type) -> Iterator[str]:
    """What its services may call."""
    for name, _ in inspect.getmembers(store, inspect.isfunction):
        if not name.startswith("_"):
            yield name


@dataclass(frozen=True)
class Done:
    """What a call gave, and the other's rows after it."""

    outcome: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Caller:
    """Calls stores as one of the two, about the one whose things they are."""

    database: Database
    principal: Principal
    held: Held

    async def call(self, store: type, method: str, about: Held) -> Done:
        """One call; nothing of it stays."""
        async with self.database.transaction(self.principal) as tx:
            outcome = await self._outcome(tx, store, method, about)
            done = Done(outcome, await self._owned(tx))
            await tx.connection.rollback()
        return done

    async def _outcome(self, tx: Transaction, store: type, method: str, about: Held) -> str:
        arguments, more = CALLS[store, method](about), WITH.get((store, method), {})
        try:
            text = repr(await getattr(store(tx), method)(*arguments, **more))
        except AtelierError as error:
            text = repr((error.code, error.details))
        except (sa.exc.IntegrityError, sa.exc.NoResultFound) as error:
            text = type(error).__name__
        for name, value in about.named.named():
            text = text.replace(value, f"<{name}>")
        for pattern, what in MADE:
            text = pattern.sub(what, text)
        return text

    async def rows(self) -> tuple[tuple[str, ...], ...]:
        """The rows of whose the things are."""
        async with self.database.transaction(self.principal, read_only=True) as tx:
            return await self._owned(tx)

    async def _owned(self, tx: Transaction) -> tuple[tuple[str, ...], ...]:
        found: list[tuple[str, ...]] = []
        owner = UUID(self.held.named.account)
        for table in metadata.tables.values():
            columns = [sa.cast(column, sa.Text) for column in table.c]
            query = sa.select(*columns).where(owner_of(table) == owner)
            rows = (tuple(map(str, row)) for row in await tx.connection.execute(query))
            found.extend(sorted((table.name, *row) for row in rows))
        return tuple(found)


async def wrong_with(
    caller: Caller, earlier: Caller, nothing: Held, store: type
) -> AsyncGenerator[str, None]:
    """What another learns or changes by the methods of a store.

    ``earlier`` is the same in the same studio before the other came.
    """
    rows = await caller.rows()
    for method in methods(store):
        real = await caller.call(store, method, caller.held)
        vain = await caller.call(store, method, nothing)
        alone = await earlier.call(store, method, nothing)
        if not real.outcome == vain.outcome == alone.outcome:
            outcomes = (real.outcome, vain.outcome, alone.outcome)
            yield f"{store.__name__}.{method} gives {outcomes}"
        if not real.rows == vain.rows == rows:
            yield f"{store.__name__}.{method} changed another's rows"

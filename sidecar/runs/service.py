"""What people do with runs."""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ..accounts.models import Quotas
from ..blobs import BlobStore
from ..clock import Clock, NewId
from ..database import Database
from ..database.pages import Page
from ..errors import ConflictError, NotFoundError, QuotaError
from ..principal import SYSTEM, Principal
from ..workflows.service import WorkflowService
from .admission import Admission, Admitted
from .feed import RunFeed
from .journal import RunJournal
from .models import Event, Output, Run, Source, Status
from .store import RunQueue, RunStore
from .views import PromptOrder, RunOrder, RunQuery

HEARTBEAT_SECONDS = 15.0
LOOK_SECONDS = 2.0
"""Another process may have changed the run, or ended the listener's session."""


@dataclass(frozen=True)
class Heartbeat:
    """Nothing happened for a while; sent so that a dead listener is noticed."""


class RunService:
    """Submit, look at, cancel, retry and delete runs."""

    def __init__(
        self,
        database: Database,
        workflows: WorkflowService,
        admission: Admission,
        journal: RunJournal,
        feed: RunFeed,
        blobs: BlobStore,
        clock: Clock,
        new_id: NewId,
        *,
        quotas: Callable[[Principal], Awaitable[Quotas]],
        is_welcome: Callable[[Principal], Awaitable[bool]],
        submitted: Callable[[], None],
    ) -> None:
        self._database = database
        self._workflows = workflows
        self._admission = admission
        self._journal = journal
        self._feed = feed
        self._blobs = blobs
        self._clock = clock
        self._new_id = new_id
        self._quotas = quotas
        self._is_welcome = is_welcome
        self._submitted = submitted

    async def run_workflow(
        self, principal: Principal, workflow_id: UUID, order: RunOrder, key: str | None
    ) -> Run:
        """Queue a run of a stored workflow.

        With an idempotency key, the same order answers the run it made before, another order
        raises ConflictError("idempotency_key_reused").
        """
        request = _fingerprint([str(workflow_id), order.model_dump(mode="json")])
        if (earlier := await self._earlier(principal, key, request)) is not None:
            return earlier
        workflow = await self._workflows.for_run(principal, workflow_id, order.version)
        admitted = await self._admission.admit(
            principal, workflow.prompt, workflow.inputs, order.input_params
        )
        graph = workflow.graph
        return await self._queue(
            principal,
            admitted,
            workflow_id=workflow_id,
            workflow_version=workflow.version,
            input_params=order.input_params,
            extra_data={} if graph is None else {"extra_pnginfo": {"workflow": graph}},
            idempotency_key=key,
            request_sha256=request,
        )

    async def run_prompt(self, principal: Principal, order: PromptOrder, key: str | None) -> Run:
        """Queue a run of a graph that is not stored. The key works as above."""
        request = _fingerprint(order.model_dump(mode="json"))
        if (earlier := await self._earlier(principal, key, request)) is not None:
            return earlier
        admitted = await self._admission.admit(
            principal, order.workflow_json, (), order.input_params
        )
        return await self._queue(
            principal,
            admitted,
            input_params=order.input_params,
            idempotency_key=key,
            request_sha256=request,
        )

    async def retry(self, principal: Principal, run_id: UUID) -> Run:
        """Queue a new run of exactly what this one ran: same prompt, same LoRA versions."""
        old = await self.get(principal, run_id)
        admitted = await self._admission.admit(principal, old.prompt)
        return await self._queue(
            principal,
            admitted,
            workflow_id=old.workflow_id,
            workflow_version=old.workflow_version,
            input_params=old.input_params,
            extra_data={k: v for k, v in old.extra_data.items() if k != "client_id"},
        )

    async def get(self, principal: Principal, run_id: UUID) -> Run:
        """One run, or NotFoundError."""
        async with self._database.transaction(principal, read_only=True) as tx:
            return await RunStore(tx).get(run_id)

    async def position(self, run: Run) -> int | None:
        """How many queued runs are before it; None when it does not wait."""
        if run.status is not Status.QUEUED:
            return None
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            return await RunQueue(tx).ahead_of(run)

    async def page(self, principal: Principal, asked: RunQuery) -> Page[Run]:
        """One page, newest first."""
        async with self._database.transaction(principal, read_only=True) as tx:
            return await RunStore(tx).page(asked)

    async def history_of(
        self, principal: Principal, workflow_id: UUID, asked: RunQuery
    ) -> Page[Run]:
        """A workflow's runs; they outlive the workflow, so it need not exist any more."""
        return await self.page(principal, asked.model_copy(update={"workflow_id": workflow_id}))

    async def cancel(self, principal: Principal, run_id: UUID) -> Run:
        """End it now; what ComfyUI has of it is withdrawn. ConflictError("run_finished")."""
        run = await self.get(principal, run_id)
        if not await self._journal.cancel(run):
            raise ConflictError(
                "run_finished", "The run has ended already.", {"status": run.status.value}
            )
        return await self.get(principal, run_id)

    async def delete(self, principal: Principal, run_id: UUID) -> None:
        """Delete a finished run and its outputs. ConflictError("run_unfinished")."""
        run = await self.get(principal, run_id)
        async with self._database.transaction(principal) as tx:
            if not await RunStore(tx).delete(run_id):
                raise ConflictError("run_unfinished", "Cancel the run before you delete it.")
        kept = self._blobs.entries(f"{principal.folder}/runs/{run.id}/")
        for key in [entry.key async for entry in kept]:
            await self._blobs.delete(key)

    async def output(self, principal: Principal, run_id: UUID, index: int) -> Output:
        """One kept output, or NotFoundError."""
        run = await self.get(principal, run_id)
        for output in run.outputs:
            if output.index == index:
                return output
        raise NotFoundError("output")

    async def events(
        self, principal: Principal, run_id: UUID, after: int
    ) -> AsyncGenerator[Event | Heartbeat, None]:
        """What happened after event ``after``, then what happens, until ``done``.

        Ends too when the listener is not welcome any more: signed out, disabled; and when the
        sidecar stops.
        """
        silent = 0.0
        with self._feed.listening(run_id) as changed:
            while not self._feed.is_closed and await self._is_welcome(principal):
                changed.clear()
                async with self._database.transaction(principal, read_only=True) as tx:
                    store = RunStore(tx)
                    run = await store.get(run_id)
                    events = await store.events(run_id, after)
                for event in events:
                    yield event
                    after, silent = event.seq, 0.0
                if events and events[-1].type == "done":
                    return
                if run.is_final and not events:
                    # its story has been trimmed, or was read to the end before
                    yield Event(after, "done", {"status": run.status.value}, self._clock.now())
                    return
                if events:
                    continue
                try:
                    await asyncio.wait_for(changed.wait(), LOOK_SECONDS)
                except asyncio.TimeoutError:
                    silent += LOOK_SECONDS
                if silent >= HEARTBEAT_SECONDS:
                    silent = 0.0
                    yield Heartbeat()

    async def _earlier(self, principal: Principal, key: str | None, request: str) -> Run | None:
        if key is None:
            return None
        async with self._database.transaction(principal, read_only=True) as tx:
            run = await RunStore(tx).by_idempotency_key(key)
        if run is not None and run.request_sha256 != request:
            raise ConflictError(
                "idempotency_key_reused",
                "This Idempotency-Key belongs to a different request.",
                {"run_id": str(run.id)},
            )
        return run

    async def _queue(self, principal: Principal, admitted: Admitted, **fields: Any) -> Run:
        run = Run(
            id=self._new_id(),
            owner_id=principal.id,
            source=Source.API,
            status=Status.QUEUED,
            prompt=admitted.prompt,
            loras=admitted.pins,
            created_at=self._clock.now(),
            **fields,
        )
        allowed = (await self._quotas(principal)).max_runs
        try:
            await self._journal.add(run, max_unfinished=allowed)
        except (ConflictError, QuotaError):
            # the same request arrived twice at once: the other one's run is the answer
            if run.request_sha256 is None:
                raise
            earlier = await self._earlier(principal, run.idempotency_key, run.request_sha256)
            if earlier is None:
                raise
            return earlier
        self._submitted()
        return run


def _fingerprint(request: Any) -> str:
    text = json.dumps(request, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def event_data(event: Event) -> Mapping[str, Any]:
    """What a listener is told."""
    return {**event.data, "at": event.at.isoformat()}

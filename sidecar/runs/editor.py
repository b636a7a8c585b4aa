"""Prompts that are queued inside ComfyUI, by the editor's own button or a script."""

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

from ..accounts.models import Quotas
from ..clock import Clock, NewId
from ..comfyui import PARTIAL, ComfyUI
from ..database import Database
from ..errors import InvalidError, NotFoundError, UnauthenticatedError
from ..loras.disk import LoraSync
from ..loras.models import LoraPin
from ..loras.resolve import LoraResolver
from ..principal import SYSTEM, Principal
from .admission import Admission, Admitted
from .journal import RunJournal
from .models import Run, Source, Status
from .steps import refused
from .store import RunQueue, RunStore
from .views import AdmittedOrder, ResolvedLora
from .withdrawal import withdraw

_SECRETS = ("auth_token_comfy_org", "api_key_comfy_org")
_KEPT_FIELDS = ("client_id", "extra_data", "number", "front", PARTIAL)


class EditorRuns:
    """Admits prompts for the pack, and serves its nodes."""

    def __init__(
        self,
        database: Database,
        comfyui: ComfyUI,
        admission: Admission,
        loras: LoraResolver,
        sync: LoraSync,
        journal: RunJournal,
        clock: Clock,
        new_id: NewId,
        *,
        worker_id: str,
        quotas: Callable[[Principal], Awaitable[Quotas]],
        start: Callable[[UUID, int], Any],
    ) -> None:
        self._database = database
        self._comfyui = comfyui
        self._admission = admission
        self._loras = loras
        self._sync = sync
        self._journal = journal
        self._clock = clock
        self._new_id = new_id
        self._worker_id = worker_id
        self._quotas = quotas
        self._start = start

    async def admit(
        self, principal: Principal, body: Mapping[str, Any]
    ) -> tuple[UUID, dict[str, Any]]:
        """The run, and the body that ComfyUI shall be given instead of ``body``.

        Raises what Admission.admit raises, InvalidError("invalid_prompt_request") for the fields
        that would stop ComfyUI itself, and QuotaError("too_many_runs").
        """
        _check_fields(body)
        admitted = await self._admission.admit(principal, body.get("prompt"))
        async with self._sync.held(admitted.needed_first):
            for pin in admitted.needed_first:
                await self._sync.ensure(pin)
            run = await self._added(principal, body, admitted)
        await self._start(run.id, 1)
        kept = {name: body[name] for name in _KEPT_FIELDS if name in body}
        return run.id, {**kept, "prompt": admitted.prompt, "prompt_id": str(run.id)}

    async def _added(
        self, principal: Principal, body: Mapping[str, Any], admitted: Admitted
    ) -> Run:
        run = Run(
            id=self._new_id(),
            owner_id=principal.id,
            source=Source.EDITOR,
            status=Status.PREPARING,
            prompt=admitted.prompt,
            loras=admitted.pins,
            created_at=self._clock.now(),
            extra_data=_stored(body),
            worker_id=self._worker_id,
            attempts=1,
            started_at=self._clock.now(),
        )
        allowed = (await self._quotas(principal)).max_runs
        await self._journal.add(run, max_unfinished=allowed)
        return run

    async def answered(self, order: AdmittedOrder) -> None:
        """What ComfyUI said to an admitted prompt; a refusal ends the run.

        A prompt whose run ended, or was deleted, on its way to ComfyUI's queue is withdrawn.
        """
        try:
            run = await self._run(order.run_id)
        except NotFoundError:
            await withdraw(self._comfyui, str(order.run_id))
            raise
        if order.status == 200:
            if run.is_final:
                await withdraw(self._comfyui, str(run.id))
            return
        details = order.answer if isinstance(order.answer, dict) else {}
        await self._journal.finish(run, Status.FAILED, error=refused(details))

    async def resolve(
        self, asker: Principal | None, prompt_id: str | None, lora: str
    ) -> LoraPin | str:
        """What a node's ``lora_name`` stands for: a pin, or the name of a file of ComfyUI's own.

        UnauthenticatedError when neither the prompt nor the asker is anybody's. A prompt whose run
        has ended is nobody's: its id opens nothing.
        """
        run = await self._behind(prompt_id)
        # what a run was accepted with stays its own, whoever deletes or unshares it meanwhile
        for pin in run.loras if run is not None else ():
            if str(pin.path) == lora.replace("\\", "/"):
                return pin
        principal = asker if run is None else Principal(run.owner_id)
        if principal is None:
            raise UnauthenticatedError("sign_in_required", "Sign in to use your LoRAs.")
        return (await self._loras.pin(principal, [lora]))[lora]

    async def fetch(self, pin: LoraPin, on_progress: Callable[[int, int], None]) -> ResolvedLora:
        """Put it on ComfyUI's disk; ``on_progress`` gets bytes done and of how many."""
        await self._sync.ensure(pin, on_progress)
        return resolved(pin)

    async def _behind(self, prompt_id: str | None) -> Run | None:
        """The run of this prompt; None for one that has ended, or that we know nothing of."""
        try:
            return await self._run(UUID(prompt_id or ""), unfinished=True)
        except (ValueError, NotFoundError):
            return None

    async def _run(self, run_id: UUID, *, unfinished: bool = False) -> Run:
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            owner_id = await RunQueue(tx).owner_of(run_id, unfinished=unfinished)
        if owner_id is None:
            raise NotFoundError("run")
        async with self._database.transaction(Principal(owner_id), read_only=True) as tx:
            return await RunStore(tx).get(run_id)


def resolved(found: LoraPin | str) -> ResolvedLora:
    """As the node needs it."""
    if isinstance(found, str):
        return ResolvedLora(path=found.replace("\\", "/"))
    return ResolvedLora(
        path=str(found.path), sha256=found.sha256, name=found.name, version=found.version
    )


def _stored(body: Mapping[str, Any]) -> dict[str, Any]:
    """What another attempt needs besides the prompt. Tokens are not kept."""
    extra = {key: value for key, value in body.get("extra_data", {}).items() if key not in _SECRETS}
    for name in ("client_id", PARTIAL):
        if name in body:
            extra[name] = body[name]
    return extra


def _check_fields(body: Mapping[str, Any]) -> None:
    """Each of these ends ComfyUI 0.3.64's worker thread, or its process."""
    wrong = {}
    if not isinstance(body.get("extra_data", {}), dict):
        wrong["extra_data"] = "expected an object"
    extra = body.get("extra_data", {})
    for holder in (body, extra if isinstance(extra, dict) else {}):
        if not isinstance(holder.get("client_id") or "", str):
            wrong["client_id"] = "expected text"
    if not _is_finite_number(body.get("number", 0)):
        wrong["number"] = "expected a finite number"
    targets = body.get(PARTIAL)
    if targets is not None and not (
        isinstance(targets, list) and all(isinstance(target, str) for target in targets)
    ):
        wrong[PARTIAL] = "expected a list of node ids"
    if wrong:
        raise InvalidError(
            "invalid_prompt_request", "Some fields cannot be accepted.", {"fields": wrong}
        )


def _is_finite_number(value: Any) -> bool:
    """As ComfyUI's own ``float(number)`` sees it: it takes the text "5", and "nan" as well."""
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False

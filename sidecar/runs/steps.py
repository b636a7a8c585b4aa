"""What an attempt at a run does, step by step. Each may be carried out twice.

A step reads the run's row first and goes by it: the engine only remembers which step is next.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from ..blobs import BlobStore
from ..comfyui import ComfyUI, Place, PromptRefusedError
from ..database import Database
from ..engine import Go
from ..errors import (
    AtelierError,
    InvalidError,
    NotFoundError,
    StorageFullError,
    TimedOutError,
    UnavailableError,
)
from ..loras.disk import LoraSync
from ..principal import SYSTEM, Principal
from .collect import Collector
from .feed import RunFeed
from .follow import Follower
from .journal import RunJournal
from .models import Run, RunError, Source, Status
from .patience import Patience, RunEndedError
from .server_paths import without_server_paths
from .store import RunQueue, RunStore
from .watch import ComfyWatch
from .withdrawal import withdraw

T = TypeVar("T")

log = logging.getLogger(__name__)

LISTING_SECONDS = 10.0
"""ComfyUI lists a new file at its next look at the folder, which is at once; a share may lag."""
EDITOR_SECONDS = 30.0
"""The editor's prompt is on its way from the admission to ComfyUI's queue for so long at most."""
_LOOK_AGAIN_SECONDS = 0.25
_DATABASE_PAUSES = (0.2, 5.0)


class Attempt:
    """The RunSteps of the engine."""

    def __init__(
        self,
        database: Database,
        journal: RunJournal,
        feed: RunFeed,
        comfyui: ComfyUI,
        watch: ComfyWatch,
        sync: LoraSync,
        blobs: BlobStore,
        *,
        patience_seconds: float,
        max_attempts: int,
    ) -> None:
        self._database = database
        self._journal = journal
        self._comfyui = comfyui
        self._watch = watch
        self._sync = sync
        self._patience = Patience(feed, self._has_ended, patience_seconds)
        self._leaving = Patience(feed, self._never_ends, min(patience_seconds, 60.0))
        self._follower = Follower(comfyui, watch, journal, self._patience, max_attempts)
        self._collector = Collector(comfyui, blobs, journal, self._patience, max_attempts)

    async def prepare(self, run_id: str, attempt: int) -> Go:
        """Put the pinned LoRAs on ComfyUI's disk, and see that it lists them."""
        return await self._carry(run_id, attempt, self._prepare)

    async def submit(self, run_id: str, attempt: int) -> Go:
        """Have ComfyUI queue the prompt under the run's id."""
        return await self._carry(run_id, attempt, self._submit)

    async def follow(self, run_id: str, attempt: int) -> Go:
        """Wait until ComfyUI is done, and keep its history entry."""
        return await self._carry(run_id, attempt, self._follower.follow)

    async def collect(self, run_id: str, attempt: int) -> Go:
        """Keep the outputs, and end the run."""
        return await self._carry(run_id, attempt, self._collector.collect)

    async def give_up(self, run_id: str, attempt: int, reason: str) -> None:
        """End a run whose step raised something nobody foresaw."""
        log.error("run.step_failed", extra={"run_id": run_id, "reason": reason})
        await _with_database(run_id, lambda: self._give_up(run_id, attempt))

    async def _give_up(self, run_id: str, attempt: int) -> None:
        run = await self._find(UUID(run_id))
        if run is not None and run.attempts == attempt:
            self._watch.dismiss(run_id)
            error = RunError("internal_error", "Something went wrong here; the log has it.")
            await self._journal.finish(run, Status.FAILED, error=error)

    async def _carry(self, run_id: str, attempt: int, step: Callable[[Run], Awaitable[Go]]) -> Go:
        return await _with_database(run_id, lambda: self._carry_once(run_id, attempt, step))

    async def _carry_once(
        self, run_id: str, attempt: int, step: Callable[[Run], Awaitable[Go]]
    ) -> Go:
        run = await self._find(UUID(run_id))
        if run is None or run.status is Status.CANCELLED:
            await self._let_go(run_id)
            return Go.STOP
        if run.is_final or run.status is Status.QUEUED or run.attempts != attempt:
            return Go.STOP
        try:
            return await step(run)
        except RunEndedError:
            await self._let_go(run_id)
        except AtelierError as error:
            if _is_database_away(error):
                raise
            self._watch.dismiss(run_id)
            failure = RunError(error.code, error.message, None, error.details)
            await self._journal.finish(run, Status.FAILED, error=failure)
        return Go.STOP

    async def _prepare(self, run: Run) -> Go:
        await self._patience.repeat(run.id, lambda: self._sync.admit(run.id, run.loras))
        for pin in run.loras:
            await self._patience.repeat(
                run.id,
                lambda pin=pin: self._patience.while_running(run.id, self._sync.ensure(pin)),  # type: ignore[misc]
            )
        wanted = {str(pin.path) for pin in run.loras}
        waited = 0.0
        while missing := wanted - await self._patience.repeat(run.id, self._listed):
            if waited >= LISTING_SECONDS:
                raise InvalidError(
                    "lora_not_listed",
                    "ComfyUI does not list a file that was put into its LoRA folder. "
                    "Is COMFYUI_LORAS_DIR one of this ComfyUI's LoRA folders?",
                    {"paths": sorted(missing)},
                )
            await self._patience.sleep(run.id, _LOOK_AGAIN_SECONDS)
            waited += _LOOK_AGAIN_SECONDS
        return Go.ON

    async def _listed(self) -> set[str]:
        return {name.replace("\\", "/") for name in await self._comfyui.lora_files()}

    async def _submit(self, run: Run) -> Go:
        prompt_id = str(run.id)
        if run.source is Source.EDITOR and run.attempts == 1:
            await self._wait_for_editor(run)
            return Go.ON
        self._watch.expect(prompt_id)
        try:
            await self._patience.repeat(
                run.id,
                lambda: self._comfyui.submit(
                    prompt_id, run.attempts, dict(run.prompt), run.extra_data
                ),
            )
        except PromptRefusedError as refusal:
            self._watch.dismiss(prompt_id)
            await self._journal.finish(run, Status.FAILED, error=refused(refusal.details))
            return Go.STOP
        return Go.ON

    async def _wait_for_editor(self, run: Run) -> None:
        waited = 0.0
        while True:
            where = await self._patience.repeat(run.id, lambda: self._comfyui.find(str(run.id)))
            if where.place is not Place.UNKNOWN:
                return
            if waited >= EDITOR_SECONDS:
                raise InvalidError(
                    "not_queued", "The editor's prompt never reached ComfyUI's queue."
                )
            await self._patience.sleep(run.id, _LOOK_AGAIN_SECONDS)
            waited += _LOOK_AGAIN_SECONDS

    async def _let_go(self, run_id: str) -> None:
        """Take a cancelled run out of ComfyUI. One that is away has either lost it or keeps it."""
        self._watch.dismiss(run_id)
        try:
            await self._leaving.repeat(UUID(run_id), lambda: withdraw(self._comfyui, run_id))
        except AtelierError as error:
            log.warning("run.not_withdrawn", extra={"run_id": run_id, "code": error.code})

    async def _find(self, run_id: UUID) -> Run | None:
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            owner_id = await RunQueue(tx).owner_of(run_id)
        if owner_id is None:
            return None
        try:
            async with self._database.transaction(Principal(owner_id), read_only=True) as tx:
                return await RunStore(tx).get(run_id)
        except NotFoundError:
            return None

    async def _has_ended(self, run_id: UUID) -> bool:
        run = await self._find(run_id)
        return run is None or run.is_final

    async def _never_ends(self, _run_id: UUID) -> bool:
        return False


async def _with_database(run_id: str, work: Callable[[], Awaitable[T]]) -> T:
    """The work's result, done again from its beginning for as long as the database is away.

    Nothing could be recorded without it, a failure neither.
    """
    pause = _DATABASE_PAUSES[0]
    while True:
        try:
            return await work()
        except AtelierError as error:
            if not _is_database_away(error):
                raise
            log.info("run.waits_for_database", extra={"run_id": run_id, "code": error.code})
        await asyncio.sleep(pause)
        pause = min(pause * 2, _DATABASE_PAUSES[1])


def _is_database_away(error: AtelierError) -> bool:
    away = isinstance(error, UnavailableError | TimedOutError | StorageFullError)
    return away and error.details.get("system") == "database"


def refused(details: dict[str, object]) -> RunError:
    """Why ComfyUI's validation refused a prompt, without its tracebacks."""
    error = details.get("error")
    said = error if isinstance(error, dict) else {}
    node_errors = details.get("node_errors")
    nodes = {
        str(node): [
            {
                key: without_server_paths(str(problem.get(key, "")))[:500]
                for key in ("type", "message", "details")
            }
            for problem in errors.get("errors", ())
        ]
        for node, errors in (node_errors if isinstance(node_errors, dict) else {}).items()
    }
    return RunError(
        "prompt_refused",
        str(said.get("message") or "ComfyUI refused the prompt."),
        next(iter(nodes), None),
        {"type": str(said.get("type", "")), "node_errors": nodes},
    )

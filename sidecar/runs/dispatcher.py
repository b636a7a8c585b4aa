"""Takes the next fair run whenever this pair has room, and looks after what it has taken."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from ..clock import Clock
from ..comfyui import ComfyUI
from ..database import Database
from ..engine import Engine
from ..errors import AtelierError
from ..principal import SYSTEM, Principal
from .journal import RunJournal
from .models import RunError, Source
from .store import RunQueue, RunStore
from .watch import ComfyWatch

log = logging.getLogger(__name__)

_IDLE_SECONDS = 2.0
_AUDIT_SECONDS = 60.0
_HOUSEKEEPING_SECONDS = 3600.0
_KEPT = timedelta(days=1)
_PATIENT_SECONDS = 3.0


class Dispatcher:
    """One per pair. Runs wait in our own table; the engine carries what this has claimed."""

    def __init__(
        self,
        database: Database,
        engine: Engine,
        journal: RunJournal,
        comfyui: ComfyUI,
        watch: ComfyWatch,
        clock: Clock,
        *,
        worker_id: str,
        at_once: int,
        max_attempts: int,
        wake: asyncio.Event,
    ) -> None:
        self._database = database
        self._engine = engine
        self._journal = journal
        self._comfyui = comfyui
        self._watch = watch
        self._clock = clock
        self._worker_id = worker_id
        self._at_once = at_once
        self._max_attempts = max_attempts
        self._wake = wake
        self._starting: set[asyncio.Future[bool]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Dispatch in the background until the block ends."""
        tasks = [
            asyncio.create_task(self._whenever_woken()),
            asyncio.create_task(self._every(_AUDIT_SECONDS, self._audit)),
            asyncio.create_task(self._every(_HOUSEKEEPING_SECONDS, self._tidy)),
        ]
        try:
            yield
        finally:
            ending: list[asyncio.Future[Any]] = [*tasks, *self._starting]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    async def start(self, run_id: UUID, attempt: int) -> bool:
        """Let the engine carry a claimed run."""
        return await self._engine.start(str(run_id), attempt)

    async def start_soon(self, run_id: UUID, attempt: int) -> None:
        """The same for somebody who waits: the engine's tables may be slow, and the audit starts
        what was not started."""
        task = asyncio.ensure_future(self.start(run_id, attempt))
        self._starting.add(task)
        task.add_done_callback(self._started)
        await asyncio.wait({task}, timeout=_PATIENT_SECONDS)

    def _started(self, task: "asyncio.Future[bool]") -> None:
        self._starting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("dispatcher.not_started", extra={"reason": type(error).__name__})

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._safely(work)
            await asyncio.sleep(seconds)

    async def _whenever_woken(self) -> None:
        while True:
            self._wake.clear()
            await self._safely(self._fill)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _IDLE_SECONDS)

    async def _safely(self, work: Callable[[], Awaitable[None]]) -> None:
        """A database that is away must not end the loop."""
        try:
            await work()
        except AtelierError as error:
            log.info("dispatcher.waits", extra={"code": error.code})
        except Exception:
            log.exception("dispatcher.unexpected_error")

    async def _fill(self) -> None:
        while await self._has_room():
            claimed = await self._journal.claim_next(self._worker_id)
            if claimed is None:
                return
            await self.start(*claimed)

    async def _has_room(self) -> bool:
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            queue = RunQueue(tx)
            claimed = await queue.claimed_by(self._worker_id)
            waiting = await queue.is_waiting()
        # the editor's prompts stand in ComfyUI's own queue: they take no place here
        ours = [run for run in claimed if run[3] is not Source.EDITOR]
        if not waiting or len(ours) >= self._at_once:
            return False
        if not self._watch.connected.is_set():
            await self._comfyui.system_stats()  # away: what is queued stays queued
        return True

    async def _audit(self) -> None:
        """Start again what a crash left between the claim and the engine."""
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            claimed = await RunQueue(tx).claimed_by(self._worker_id)
        for run_id, owner_id, attempt, _ in claimed:
            if await self.start(run_id, attempt):
                continue
            async with self._database.transaction(Principal(owner_id), read_only=True) as tx:
                run = await RunStore(tx).get(run_id)
            if run.attempts == attempt:
                error = RunError("internal_error", "The run stopped half way at every attempt.")
                await self._journal.requeue(run, self._max_attempts, error)

    async def _tidy(self) -> None:
        async with self._database.transaction(SYSTEM) as tx:
            await RunQueue(tx).trim_events(self._clock.now() - _KEPT)
        await self._engine.forget(_KEPT.total_seconds())

"""Every change of a run: guarded transition and events in one transaction, then the news."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from ..clock import Clock
from ..database import Database
from ..errors import QuotaError
from ..principal import SYSTEM, Principal
from .feed import RunFeed
from .models import CLAIMED, UNFINISHED, Output, Progress, Run, RunError, Status
from .store import RunQueue, RunStore

_RETRY_AFTER = 30


class RunJournal:
    """Writes what happens to runs. What moves or ends one answers whether it still mattered."""

    def __init__(
        self, database: Database, feed: RunFeed, clock: Clock, freed: Callable[[], None]
    ) -> None:
        self._database = database
        self._feed = feed
        self._clock = clock
        self._freed = freed

    async def add(self, run: Run, *, max_unfinished: int | None = None) -> None:
        """Write a new run. QuotaError("too_many_runs") when as many of its owner's have not ended.

        None is no limit.
        """
        async with self._database.transaction(Principal(run.owner_id)) as tx:
            store = RunStore(tx)
            if max_unfinished is not None:
                await tx.alone("runs")
                _refuse_too_many(await store.count_unfinished(), max_unfinished)
            await store.add(run)
            await store.add_event(run.id, "status", {"status": run.status.value}, run.created_at)

    async def claim_next(self, worker_id: str) -> tuple[UUID, int] | None:
        """Give this worker the next fair run: (id, attempt), or None when none waits."""
        async with self._database.transaction(SYSTEM) as tx:
            claimed = await RunQueue(tx).claim_next(worker_id, self._clock.now())
        if claimed is not None:
            self._feed.changed(claimed[0])
        return claimed

    async def running(self, run: Run) -> bool:
        """ComfyUI has begun with it."""
        return await self._move(run, (Status.PREPARING,), status=Status.RUNNING)

    async def progress(self, run: Run, kind: str, progress: Progress) -> bool:
        """How far the current node is; ``kind`` is ``progress`` or ``node``."""
        data = {"value": progress.value, "max": progress.max, "node": progress.node}
        async with self._database.transaction(Principal(run.owner_id)) as tx:
            store = RunStore(tx)
            done = await store.change(run.id, CLAIMED, attempt=run.attempts, progress=progress)
            if done:
                await store.add_event(run.id, kind, data, self._clock.now())
        self._feed.changed(run.id)
        return done

    async def executed(self, run: Run, history: dict[str, Any]) -> bool:
        """ComfyUI is done: keep what its history says, which a restart of ComfyUI forgets."""
        async with self._database.transaction(Principal(run.owner_id)) as tx:
            return await RunStore(tx).change(run.id, CLAIMED, attempt=run.attempts, history=history)

    async def output(self, run: Run, output: Output) -> bool:
        """Tell that an output is kept, unless the run has ended meanwhile."""
        data = {
            "index": output.index,
            "filename": output.filename,
            "type": output.type.value,
            "bytes": output.bytes,
        }
        async with self._database.transaction(Principal(run.owner_id)) as tx:
            store = RunStore(tx)
            # changes nothing, and holds the row: after its end a run has no more events
            done = await store.change(
                run.id, CLAIMED, attempt=run.attempts, worker_id=run.worker_id
            )
            if done:
                await store.add_event(run.id, "output", data, self._clock.now())
        self._feed.changed(run.id)
        return done

    async def finish(
        self,
        run: Run,
        status: Status,
        *,
        error: RunError | None = None,
        outputs: Sequence[Output] = (),
        gpu_seconds: float | None = None,
    ) -> bool:
        """End it, from whatever unfinished state it is in."""
        return await self._move(
            run,
            UNFINISHED,
            status=status,
            error=error,
            outputs=tuple(outputs),
            gpu_seconds=gpu_seconds,
            history=None,
            finished_at=self._clock.now(),
        )

    async def cancel(self, run: Run) -> bool:
        """End it because its owner asked, whichever attempt it is on by now."""
        return await self._move(
            run,
            UNFINISHED,
            any_attempt=True,
            status=Status.CANCELLED,
            history=None,
            finished_at=self._clock.now(),
        )

    async def cancel_all(self, owner_id: UUID) -> None:
        """End every run of an account that has not ended: it was disabled."""
        async with self._database.transaction(Principal(owner_id), read_only=True) as tx:
            unfinished = await RunStore(tx).unfinished()
        for run in unfinished:
            await self.cancel(run)

    async def requeue(
        self, run: Run, max_attempts: int, error: RunError, outputs: Sequence[Output] = ()
    ) -> bool:
        """Let it wait for another attempt; after the last one it fails with ``error``."""
        if run.attempts >= max_attempts:
            return await self.finish(run, Status.FAILED, error=error, outputs=outputs)
        return await self._move(
            run, CLAIMED, status=Status.QUEUED, worker_id=None, progress=None, history=None
        )

    async def _move(
        self, run: Run, allowed: Sequence[Status], *, any_attempt: bool = False, **values: Any
    ) -> bool:
        attempt = None if any_attempt else run.attempts
        now = self._clock.now()
        status: Status = values["status"]
        async with self._database.transaction(Principal(run.owner_id)) as tx:
            store = RunStore(tx)
            moved = await store.change(run.id, allowed, attempt=attempt, **values)
            if moved:
                await store.add_event(run.id, "status", {"status": status.value}, now)
                error: RunError | None = values.get("error")
                if error is not None:
                    data = {"code": error.code, "message": error.message, "node_id": error.node_id}
                    await store.add_event(run.id, "error", data, now)
                if "finished_at" in values:
                    await store.add_event(run.id, "done", {"status": status.value}, now)
        self._feed.changed(run.id)
        self._freed()
        return moved


def _refuse_too_many(unfinished: int, allowed: int) -> None:
    if unfinished >= allowed:
        raise QuotaError(
            "too_many_runs",
            f"You have {unfinished} unfinished runs; {allowed} are allowed.",
            {"retry_after": _RETRY_AFTER, "max_unfinished": allowed},
        )

"""The Engine port on DBOS: one durable workflow per attempt at a run.

DBOS is one per process and finds workflows by the name they were registered under at import, so
the steps it calls hang on a module variable while an engine runs.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone

import sqlalchemy as sa
from dbos import (
    DBOS,
    DBOSPortableJSONSerializer,
    SetWorkflowID,
    WorkflowStatusString,
)

from . import Go, RunSteps

APP_NAME = "atelier-sidecar"
APP_VERSION = "attempt-1"
"""Changed only when the order of the steps changes: DBOS resumes attempts of its own version."""

_ENDED = [
    WorkflowStatusString.SUCCESS.value,
    WorkflowStatusString.ERROR.value,
    WorkflowStatusString.CANCELLED.value,
    WorkflowStatusString.MAX_RECOVERY_ATTEMPTS_EXCEEDED.value,
]
_FORGET_AT_ONCE = 200
RECORDED_SECONDS = 30.0
"""After so long DBOS has recorded the end of an attempt, or never will."""
_LAUNCH_PAUSES = (0.5, 1.0, 2.0, 4.0)


@dataclass
class _Carrier:
    """Calls the steps, and stops them all before anything they need is closed."""

    steps: RunSteps
    tasks: set[asyncio.Task[Go]] = field(default_factory=set)
    given_up: set[str] = field(default_factory=set)
    """Attempts that ended with an error that DBOS could not record, or that was DBOS's own: it may
    take them for under way for ever."""
    ended: dict[str, float] = field(default_factory=dict)
    """When attempts came to an end here (``time.monotonic``); trimmed by ``forget``."""
    closing: bool = False

    async def call(self, step: Callable[[], Awaitable[Go]]) -> str:
        """Run one step as a task of its own.

        Once the engine closes, whatever it raises is a cancellation: DBOS records any other error
        as the outcome, and the attempt could not go on after the restart.
        """
        task = asyncio.ensure_future(self._await(step))
        self.tasks.add(task)
        try:
            return (await task).value
        except Exception as error:
            if self.closing:
                raise asyncio.CancelledError from error
            raise
        finally:
            self.tasks.discard(task)

    async def _await(self, step: Callable[[], Awaitable[Go]]) -> Go:
        if self.closing:
            raise asyncio.CancelledError
        return await step()

    def trim(self, before: float) -> None:
        """Forget attempts that ended before then."""
        self.ended = {name: at for name, at in self.ended.items() if at >= before}

    async def close(self) -> None:
        """Cancel what runs and wait until it has let go."""
        self.closing = True
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


log = logging.getLogger(__name__)

_carriers: list[_Carrier] = []


def _carrier() -> _Carrier:
    return _carriers[-1]


@DBOS.step()
async def _prepare(run_id: str, attempt: int) -> str:
    carrier = _carrier()
    return await carrier.call(lambda: carrier.steps.prepare(run_id, attempt))


@DBOS.step()
async def _submit(run_id: str, attempt: int) -> str:
    carrier = _carrier()
    return await carrier.call(lambda: carrier.steps.submit(run_id, attempt))


@DBOS.step()
async def _follow(run_id: str, attempt: int) -> str:
    carrier = _carrier()
    return await carrier.call(lambda: carrier.steps.follow(run_id, attempt))


@DBOS.step()
async def _collect(run_id: str, attempt: int) -> str:
    carrier = _carrier()
    return await carrier.call(lambda: carrier.steps.collect(run_id, attempt))


@DBOS.step()
async def _give_up(run_id: str, attempt: int, reason: str) -> str:
    carrier = _carrier()

    async def give_up() -> Go:
        await carrier.steps.give_up(run_id, attempt, reason)
        return Go.STOP

    return await carrier.call(give_up)


# None: a run that outlives many restarts is no reason to drop it; attempts are counted in its row.
@DBOS.workflow(name="attempt", max_recovery_attempts=None)
async def _attempt(run_id: str, attempt: int) -> None:
    carrier = _carrier()
    try:
        for step in (_prepare, _submit, _follow, _collect):
            if await step(run_id, attempt) != Go.ON:
                return
    except (sa.exc.DBAPIError, sa.exc.TimeoutError):
        # not a step's, which know no SQL: DBOS could not record how far this has come. The run may
        # well be fine; another attempt finds out
        carrier.given_up.add(_id(run_id, attempt))
        raise
    except Exception as error:
        try:
            await _give_up(run_id, attempt, f"{type(error).__name__}: {error}")
        except Exception:
            carrier.given_up.add(_id(run_id, attempt))
            raise
    except asyncio.CancelledError:
        raise
    except BaseException:
        # DBOS stops an attempt whose record is not as it left it, as after a failover that
        # lost the last commits; for the next start it is still under way
        carrier.given_up.add(_id(run_id, attempt))
        raise
    finally:
        carrier.ended[_id(run_id, attempt)] = time.monotonic()


class DbosEngine:
    """See the Engine port, on the database of this (blocking) SQLAlchemy engine.

    ``executor_id`` is the same after every restart, which so finds its own attempts, and never that
    of another living process, which would carry them out too. ``schema`` is for Postgres.
    """

    def __init__(
        self, steps: RunSteps, database: sa.Engine, *, executor_id: str, schema: str | None = None
    ) -> None:
        self._carrier = _Carrier(steps)
        self._database = database
        self._executor_id = executor_id
        self._schema = schema
        # of what is to be recovered DBOS takes whatever has its version: on a database that several
        # share that would be another's attempt, at another ComfyUI
        self._version = APP_VERSION if schema is None else f"{APP_VERSION}-{executor_id}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """DBOS between launch and destroy. On launch, attempts that a crash interrupted go on."""
        _carriers.append(self._carrier)
        try:
            await self._launch()
            yield
        finally:
            await self._carrier.close()
            await asyncio.to_thread(DBOS.destroy)
            _new_executor()
            _carriers.remove(self._carrier)

    async def _launch(self) -> None:
        """DBOS makes its tables when it first starts.

        Two that do so at once fail behind a pooler, where the lock of DBOS does not hold: the
        second try finds the tables made.
        """
        for pause in _LAUNCH_PAUSES:
            try:
                return self._launch_once()
            except sa.exc.DBAPIError as error:
                log.warning("engine.starts_again", extra={"reason": type(error.orig).__name__})
                await asyncio.to_thread(DBOS.destroy)
                _new_executor()
            await asyncio.sleep(pause)
        return self._launch_once()

    def _launch_once(self) -> None:
        """On the loop's thread: DBOS runs async workflows on this loop."""
        DBOS(
            config={
                "name": APP_NAME,
                "application_version": self._version,
                "system_database_engine": self._database,
                "system_database_url": self._database.url.render_as_string(False),
                "dbos_system_schema": self._schema,
                "executor_id": self._executor_id,
                "serializer": DBOSPortableJSONSerializer(),  # the default is pickle
                "use_listen_notify": False,
                "notification_listener_polling_interval_sec": 0.5,
                "log_level": "ERROR",  # it warns of every attempt that it resumes
            }
        )
        _log_as_everyone_does()
        DBOS.launch()

    async def start(self, run_id: str, attempt: int) -> bool:
        """See the Engine port."""
        workflow_id = _id(run_id, attempt)
        if workflow_id in self._carrier.given_up:
            return False  # for DBOS it may still be under way: nobody carries it any more
        with SetWorkflowID(workflow_id):
            handle = await DBOS.start_workflow_async(_attempt, run_id, attempt)
        if (await handle.get_status()).status in _ENDED:
            return False
        # it ended here a while ago, and for DBOS is under way: the database has lost what it was
        # told, as after a failover to a copy without the last commits
        ended_at = self._carrier.ended.get(workflow_id, math.inf)
        return time.monotonic() - ended_at < RECORDED_SECONDS

    async def forget(self, before_seconds: float) -> int:
        """See the Engine port."""
        self._carrier.trim(time.monotonic() - max(before_seconds, RECORDED_SECONDS))
        limit = time.time() - before_seconds
        forgotten = 0
        while True:
            ended = await DBOS.list_workflows_async(
                status=_ENDED,
                completed_before=_iso(limit),
                limit=_FORGET_AT_ONCE,
                load_input=False,
                load_output=False,
            )
            if not ended:
                return forgotten
            await DBOS.delete_workflows_async([workflow.workflow_id for workflow in ended])
            forgotten += len(ended)


def _new_executor() -> None:
    """DBOS made its pool the loop's default; after destroy every to_thread would raise."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())


def _id(run_id: str, attempt: int) -> str:
    return f"{run_id}/{attempt}"


def _log_as_everyone_does() -> None:
    """DBOS writes to stderr in a format of its own."""
    logger = logging.getLogger("dbos")
    logger.handlers.clear()
    logger.propagate = True


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()

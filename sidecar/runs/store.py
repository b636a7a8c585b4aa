"""Runs and their events in SQL. A transition is one guarded UPDATE: late writers change nothing."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import TypeAdapter

from ..database import Transaction
from ..database.pages import Cursor, Page, cut, newest_first
from ..database.tables import accounts, run_events, runs
from ..errors import ConflictError, NotFoundError
from ..loras.models import LoraPin
from .models import (
    CLAIMED,
    FINAL,
    UNFINISHED,
    Event,
    Output,
    Progress,
    Run,
    RunError,
    Source,
    Status,
)
from .views import RunQuery

_pins = TypeAdapter(tuple[LoraPin, ...])
_outputs = TypeAdapter(tuple[Output, ...])
_error = TypeAdapter(RunError)
_ADAPTERS: Mapping[str, TypeAdapter[Any]] = {
    "loras": _pins,
    "outputs": _outputs,
    "error": _error,
    "progress": TypeAdapter(Progress),
}


def _run(row: sa.RowMapping) -> Run:
    values = dict(row)
    for name, adapter in _ADAPTERS.items():
        if values[name] is not None:
            values[name] = adapter.validate_python(values[name])
    values["source"] = Source(values["source"])
    values["status"] = Status(values["status"])
    return Run(**values)


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    columns = dict(values)
    for name, adapter in _ADAPTERS.items():
        if columns.get(name) is not None:
            columns[name] = adapter.dump_python(columns[name], mode="json")
    return columns


class RunStore:
    """One person's runs."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._mine = tx.mine(runs)

    async def add(self, run: Run) -> None:
        """Write a new run of this person's.

        ConflictError("idempotency_key_in_use") when two arrive at once.
        """
        taken = ConflictError(
            "idempotency_key_in_use", "Another request with this Idempotency-Key is under way."
        )
        values = {name: getattr(run, name) for name in run.__dataclass_fields__}
        values["owner_id"] = self._tx.principal.id
        with self._tx.unique_or(taken):
            await self._tx.execute(runs.insert().values(_columns(values)))

    async def get(self, run_id: UUID) -> Run:
        """One run, or NotFoundError."""
        query = sa.select(runs).where(self._mine, runs.c.id == run_id)
        row = (await self._tx.execute(query)).mappings().one_or_none()
        if row is None:
            raise NotFoundError("run")
        return _run(row)

    async def by_idempotency_key(self, key: str) -> Run | None:
        """The run that an earlier request with this key made."""
        query = sa.select(runs).where(self._mine, runs.c.idempotency_key == key)
        row = (await self._tx.execute(query)).mappings().one_or_none()
        return None if row is None else _run(row)

    async def page(self, asked: RunQuery) -> Page[Run]:
        """One page, newest first. Neither prompts nor histories are read."""
        query = sa.select(*_LISTED).where(self._mine)
        if asked.status is not None:
            query = query.where(runs.c.status == asked.status.value)
        if asked.workflow_id is not None:
            query = query.where(runs.c.workflow_id == asked.workflow_id)
        if asked.since is not None:
            query = query.where(runs.c.created_at >= asked.since)
        rows = (await self._tx.execute(newest_first(query, runs, asked))).mappings().all()
        found = [_run({**_NOT_LISTED, **row}) for row in rows]  # type: ignore[arg-type]
        return cut(found, asked, lambda run: Cursor(run.created_at, run.id))

    async def unfinished(self) -> list[Run]:
        """Those of this person's runs that have not ended, without prompts."""
        query = sa.select(*_LISTED).where(self._mine, runs.c.status.in_(_values(UNFINISHED)))
        rows = (await self._tx.execute(query)).mappings().all()
        return [_run({**_NOT_LISTED, **row}) for row in rows]  # type: ignore[arg-type]

    async def there(self, run_ids: Collection[UUID]) -> set[UUID]:
        """Which of these there are."""
        query = sa.select(runs.c.id).where(self._tx.mine(runs), runs.c.id.in_(list(run_ids)))
        return set((await self._tx.execute(query)).scalars().all())

    async def count_unfinished(self) -> int:
        """How many of this person's runs have not ended."""
        query = sa.select(sa.func.count()).select_from(runs)
        query = query.where(self._mine, runs.c.status.in_(_values(UNFINISHED)))
        return int((await self._tx.execute(query)).scalar_one())

    async def change(
        self, run_id: UUID, allowed: Sequence[Status], *, attempt: int | None = None, **values: Any
    ) -> bool:
        """Change a run that is in an allowed state (and on this attempt); False if it is not."""
        guard = [self._mine, runs.c.id == run_id, runs.c.status.in_(_values(allowed))]
        if attempt is not None:
            guard.append(runs.c.attempts == attempt)
        if "status" in values:
            values["status"] = values["status"].value
        result = await self._tx.execute(runs.update().where(*guard).values(_columns(values)))
        return result.rowcount == 1

    async def delete(self, run_id: UUID) -> bool:
        """Delete a finished run and its events; False if it is not finished."""
        row = sa.select(runs.c.id).where(
            self._mine, runs.c.id == run_id, runs.c.status.in_(_values(FINAL))
        )
        if (await self._tx.execute(row)).one_or_none() is None:
            return False
        events = run_events.delete().where(self._tx.mine(run_events), run_events.c.run_id == run_id)
        await self._tx.execute(events)
        await self._tx.execute(runs.delete().where(self._mine, runs.c.id == run_id))
        return True

    async def add_event(
        self, run_id: UUID, kind: str, data: Mapping[str, Any], at: datetime
    ) -> None:
        """Append to the run's story."""
        await self._tx.execute(_event(run_id, self._tx.principal.id, kind, data, at))

    async def events(self, run_id: UUID, after: int, limit: int = 500) -> list[Event]:
        """What happened after event number ``after``, in order."""
        query = (
            sa.select(run_events.c.seq, run_events.c.type, run_events.c.data, run_events.c.at)
            .where(self._tx.mine(run_events))
            .where(run_events.c.run_id == run_id, run_events.c.seq > after)
            .order_by(run_events.c.seq)
            .limit(limit)
        )
        return [Event(**row) for row in (await self._tx.execute(query)).mappings()]


class RunQueue:
    """All accounts' runs, for the sidecar's own work only: claiming and housekeeping."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def claim_next(self, worker_id: str, now: datetime) -> tuple[UUID, int] | None:
        """Give this worker the next fair run: (id, attempt), or None when none waits.

        Fair: the account that was served least recently goes first, its own runs in order. Runs
        that go on right now count as served, so a newcomer is next however long another's queue.
        A disabled account's run that was submitted at the last moment waits.
        """
        waiting = runs.alias("waiting")
        served = runs.alias("served")
        last_served = (
            sa.select(sa.func.max(served.c.started_at))
            # later than now: a clock that was ahead must not keep anybody waiting for it
            .where(served.c.owner_id == waiting.c.owner_id, served.c.started_at <= now)
            .scalar_subquery()
        )
        disabled = sa.exists().where(
            accounts.c.id == waiting.c.owner_id, accounts.c.disabled_at.is_not(None)
        )
        fair = (
            sa.select(waiting.c.owner_id)
            .where(waiting.c.status == Status.QUEUED.value, ~disabled)
            .group_by(waiting.c.owner_id)
            .order_by(last_served.asc().nulls_first(), sa.func.min(waiting.c.created_at))
            .limit(1)
        )
        owner_id = (await self._tx.execute(fair)).scalar_one_or_none()
        if owner_id is None:
            return None
        oldest = (
            sa.select(runs.c.id, runs.c.attempts)
            .where(runs.c.owner_id == owner_id, runs.c.status == Status.QUEUED.value)
            .order_by(runs.c.created_at, runs.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)  # another pair may be taking it right now
        )
        row = (await self._tx.execute(oldest)).one_or_none()
        if row is None:
            return None
        claim = (
            runs.update()
            .where(runs.c.id == row.id, runs.c.status == Status.QUEUED.value)
            .values(
                status=Status.PREPARING.value,
                worker_id=worker_id,
                attempts=runs.c.attempts + 1,
                started_at=now,
            )
        )
        if (await self._tx.execute(claim)).rowcount != 1:
            return None
        data = {"status": Status.PREPARING.value}
        await self._tx.execute(_event(row.id, owner_id, "status", data, now))
        return row.id, row.attempts + 1

    async def claimed_by(self, worker_id: str) -> list[tuple[UUID, UUID, int, Source]]:
        """What this worker is at: (id, owner, attempt, source)."""
        query = sa.select(runs.c.id, runs.c.owner_id, runs.c.attempts, runs.c.source).where(
            runs.c.worker_id == worker_id, runs.c.status.in_(_values(CLAIMED))
        )
        rows = (await self._tx.execute(query)).all()
        return [(row.id, row.owner_id, row.attempts, Source(row.source)) for row in rows]

    async def is_waiting(self) -> bool:
        """Whether any run waits."""
        query = sa.select(runs.c.id).where(runs.c.status == Status.QUEUED.value).limit(1)
        return (await self._tx.execute(query)).one_or_none() is not None

    async def owner_of(self, run_id: UUID, *, unfinished: bool = False) -> UUID | None:
        """Whose run it is; ``unfinished``: None for one that has ended."""
        query = sa.select(runs.c.owner_id).where(runs.c.id == run_id)
        if unfinished:
            query = query.where(runs.c.status.in_(_values(UNFINISHED)))
        owner: UUID | None = (await self._tx.execute(query)).scalar_one_or_none()
        return owner

    async def ahead_of(self, run: Run) -> int:
        """How many queued runs are older."""
        older = sa.tuple_(runs.c.created_at, runs.c.id) < sa.tuple_(
            sa.literal(run.created_at, runs.c.created_at.type), sa.literal(run.id, runs.c.id.type)
        )
        query = sa.select(sa.func.count()).select_from(runs)
        query = query.where(runs.c.status == Status.QUEUED.value, older)
        return int((await self._tx.execute(query)).scalar_one())

    async def trim_events(self, before: datetime) -> int:
        """Drop what happened before then of the stories of runs that had ended by then."""
        # by the age of the events: those that are kept are few, the runs are all there ever were
        ended = sa.select(runs.c.id).where(
            runs.c.id == run_events.c.run_id, runs.c.finished_at < before
        )
        old = run_events.delete().where(run_events.c.at < before, ended.exists())
        return int((await self._tx.execute(old)).rowcount)


_NOT_LISTED: Mapping[str, Any] = {"prompt": {}, "extra_data": {}, "history": None}
_LISTED = [column for column in runs.c if column.name not in _NOT_LISTED]


def _event(
    run_id: UUID, owner_id: UUID, kind: str, data: Mapping[str, Any], at: datetime
) -> sa.Insert:
    """The next event of a run's story."""
    last = sa.select(sa.func.coalesce(sa.func.max(run_events.c.seq), 0) + 1)
    return run_events.insert().values(
        run_id=run_id,
        seq=last.where(run_events.c.run_id == run_id).scalar_subquery(),
        owner_id=owner_id,
        at=at,
        type=kind,
        data=dict(data),
    )


def _values(statuses: Sequence[Status]) -> list[str]:
    return [status.value for status in statuses]

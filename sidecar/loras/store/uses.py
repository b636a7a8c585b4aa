"""What a version is used by, as its owner's runs tell."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from ...database import Transaction
from ...database.tables import runs, workflows
from ..models import WorkflowUse

MAX_WORKFLOWS = 100
_UNFINISHED = ("queued", "preparing", "running")


class UseStore:
    """The pins of one person's runs, inside that person's transaction."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def runs(self, lora_id: UUID, version: int) -> tuple[int, int, datetime | None]:
        """How many runs used a version, how many of them are unfinished, and when the last was
        made."""
        unfinished = sa.func.count(sa.case((runs.c.status.in_(_UNFINISHED), 1)))
        query = sa.select(sa.func.count(), unfinished, sa.func.max(runs.c.created_at))
        found = await self._tx.execute(query.where(*self._using(lora_id, version)))
        row: tuple[Any, ...] = tuple(found.one())
        return row[0], row[1], row[2]

    async def workflows(self, lora_id: UUID, version: int) -> Sequence[WorkflowUse]:
        """The stored workflows whose runs used it, the last used first."""
        last, count = sa.func.max(runs.c.created_at), sa.func.count().label("runs")
        query = (
            sa.select(workflows.c.id, workflows.c.name, count, last.label("last_used_at"))
            .join(runs, runs.c.workflow_id == workflows.c.id)
            .where(self._tx.mine(workflows), workflows.c.deleted_at.is_(None))
            .where(*self._using(lora_id, version))
            .group_by(workflows.c.id, workflows.c.name)
            .order_by(last.desc(), workflows.c.id)
            .limit(MAX_WORKFLOWS)
        )
        return [WorkflowUse(**row) for row in (await self._tx.execute(query)).mappings()]

    def _using(self, lora_id: UUID, version: int) -> tuple[sa.ColumnElement[bool], ...]:
        """The two databases look into JSON each in its own way."""
        if self._tx.connection.dialect.name == "postgresql":
            pin = [{"lora_id": str(lora_id), "version": version}]
            pins = sa.cast(runs.c.loras, JSONB).contains(pin)
        else:
            each = sa.func.json_each(runs.c.loras).table_valued("value")
            pins = (
                sa.select(sa.literal(1))
                .select_from(each)
                .where(
                    sa.func.json_extract(each.c.value, "$.lora_id") == str(lora_id),
                    sa.func.json_extract(each.c.value, "$.version") == version,
                )
                .exists()
            )
        return self._tx.mine(runs), pins

"""Rows of workflows, written without the workflows room."""

from datetime import datetime, timezone
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from sidecar.database import Database
from sidecar.database.tables import workflows
from sidecar.principal import Principal

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)


def workflow_row(owner: UUID, **changes: Any) -> dict[str, Any]:
    """A row of ``comfyui_workflows``."""
    row = {"id": uuid4(), "owner_id": owner, "name": "x", "tags": [], "head_version": 1}
    return {**row, "created_at": MOMENT, "updated_at": MOMENT, **changes}


async def add_workflow(database: Database, owner: Principal, **changes: Any) -> UUID:
    """Insert one of somebody's own; its id."""
    row = workflow_row(owner.id, **changes)
    async with database.transaction(owner) as tx:
        await tx.execute(workflows.insert().values(row))
    return UUID(str(row["id"]))


async def owners_seen(database: Database, principal: Principal) -> set[UUID]:
    """Whose workflows a query without any condition shows somebody."""
    async with database.transaction(principal, read_only=True) as tx:
        return set((await tx.execute(sa.select(workflows.c.owner_id))).scalars())

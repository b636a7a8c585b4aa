"""The SQL of resumable uploads."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from ..database import Transaction
from ..database.tables import uploads
from .models import UNFINISHED, Upload, UploadState

MOST = 200
"""Uploads that a list shows."""


class UploadStore:
    """One person's uploads, inside that person's transaction."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def add(self, upload: Upload) -> None:
        """Write a new one."""
        values = asdict(upload) | {"owner_id": self._tx.principal.id}
        await self._tx.execute(uploads.insert().values(values))

    async def get(self, upload_id: UUID) -> Upload | None:
        """One, or None."""
        query = sa.select(uploads).where(self._tx.mine(uploads), uploads.c.id == upload_id)
        row = (await self._tx.execute(query)).mappings().one_or_none()
        return None if row is None else _upload(row)

    async def newest(self) -> Sequence[Upload]:
        """The newest ones, newest first."""
        query = (
            sa.select(uploads)
            .where(self._tx.mine(uploads))
            .order_by(uploads.c.created_at.desc(), uploads.c.id.desc())
            .limit(MOST)
        )
        return [_upload(row) for row in (await self._tx.execute(query)).mappings()]

    async def unfinished(self) -> Sequence[UUID]:
        """Those that are not at their end."""
        query = sa.select(uploads.c.id).where(
            self._tx.mine(uploads), uploads.c.state.in_([state.value for state in UNFINISHED])
        )
        return (await self._tx.execute(query)).scalars().all()

    async def change(self, upload_id: UUID, states: Collection[UploadState], **values: Any) -> bool:
        """Change one that is in one of these states; whether it was."""
        if "state" in values:
            values["state"] = values["state"].value
        change = (
            uploads.update()
            .where(
                self._tx.mine(uploads),
                uploads.c.id == upload_id,
                uploads.c.state.in_([state.value for state in states]),
            )
            .values(values)
        )
        return (await self._tx.execute(change)).rowcount == 1

    async def delete(self, upload_id: UUID) -> None:
        """Remove one."""
        await self._tx.execute(
            uploads.delete().where(self._tx.mine(uploads), uploads.c.id == upload_id)
        )


class PairsUploads:
    """All accounts' uploads on one pair, for the sidecar's own work only."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def unfinished(self, worker_id: str) -> Sequence[tuple[UUID, UUID, int | None]]:
        """(id, owner, length) of those that are not at their end; without a length those whose
        LoRA is being made already."""
        query = sa.select(
            uploads.c.id, uploads.c.owner_id, uploads.c.length, uploads.c.state
        ).where(
            uploads.c.worker_id == worker_id,
            uploads.c.state.in_([state.value for state in UNFINISHED]),
        )
        receiving = UploadState.RECEIVING.value
        return [
            (row.id, row.owner_id, row.length if row.state == receiving else None)
            for row in (await self._tx.execute(query)).all()
        ]

    async def expired(self, worker_id: str, at: datetime) -> Sequence[tuple[UUID, UUID]]:
        """(id, owner) of those that have expired by then; one that is being finished does not."""
        over = uploads.c.expires_at <= at
        return await self._found(worker_id, over, uploads.c.state != UploadState.FINISHING.value)

    async def every(self, worker_id: str) -> Sequence[tuple[UUID, UUID]]:
        """(id, owner) of all of them."""
        return await self._found(worker_id)

    async def _found(
        self, worker_id: str, *conditions: sa.ColumnElement[bool]
    ) -> Sequence[tuple[UUID, UUID]]:
        query = sa.select(uploads.c.id, uploads.c.owner_id).where(
            uploads.c.worker_id == worker_id, *conditions
        )
        return [(row.id, row.owner_id) for row in (await self._tx.execute(query)).all()]


def _upload(row: sa.RowMapping) -> Upload:
    return Upload(**{**row, "state": UploadState(row["state"])})

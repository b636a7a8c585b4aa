"""Which files unfinished runs hold on to, whoever's they are: for the sidecar's own work only."""

from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa
from pydantic import TypeAdapter

from ...database import Transaction
from ...database.tables import runs
from ..models import HeldFiles, LoraPin

_pins = TypeAdapter(tuple[LoraPin, ...])


class HeldStore:
    """The pins of all accounts' unfinished runs."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def all(self) -> Sequence[HeldFiles]:
        """Of every run that pins anything."""
        query = sa.select(runs.c.id, runs.c.worker_id, runs.c.loras).where(_is_unfinished())
        return [
            HeldFiles(row.id, row.worker_id, _pins.validate_python(row.loras))
            for row in (await self._tx.execute(query)).all()
            if row.loras
        ]

    async def holds(self, lora_id: UUID, version: int | None = None) -> bool:
        """Whether any run holds on to a LoRA, or to one version of it."""
        mentions = sa.cast(runs.c.loras, sa.Text).contains(str(lora_id))
        query = sa.select(runs.c.loras).where(_is_unfinished(), mentions)
        for (stored,) in (await self._tx.execute(query)).all():
            for pin in _pins.validate_python(stored):
                if pin.lora_id == lora_id and version in (None, pin.version):
                    return True
        return False


def _is_unfinished() -> sa.ColumnElement[bool]:
    return runs.c.status.in_(("queued", "preparing", "running"))

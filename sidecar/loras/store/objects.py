"""Which objects of the blob store the library names."""

from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa

from ...database import Transaction
from ...database.tables import lora_versions, loras
from ..models import StoredObject


class ObjectStore:
    """One person's objects, inside that person's transaction."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def versions(self) -> Sequence[StoredObject]:
        """Of every version."""
        query = sa.select(
            lora_versions.c.object_key, lora_versions.c.lora_id, lora_versions.c.version
        ).where(self._tx.mine(lora_versions))
        return [
            StoredObject(row.object_key, row.lora_id, row.version)
            for row in (await self._tx.execute(query)).all()
        ]


class LibraryOwners:
    """Everybody who has a library, for the sidecar's own work only."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def all(self) -> Sequence[UUID]:
        """Their ids."""
        query = sa.select(loras.c.owner_id).distinct()
        return (await self._tx.execute(query)).scalars().all()

"""What the library says of objects in the blob store: whose they are, and that they are lost."""

import logging
from collections.abc import Sequence
from uuid import UUID

from ..database import Database
from ..principal import SYSTEM, Principal
from .models import StoredObject, VersionState
from .store import LoraStore
from .store.objects import LibraryOwners, ObjectStore

log = logging.getLogger(__name__)


class LoraObjects:
    """Reads as each owner; nothing of anybody's is shown to another."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def owners(self) -> Sequence[UUID]:
        """Everybody who has a library."""
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            return await LibraryOwners(tx).all()

    async def named(self, owner_id: UUID) -> Sequence[StoredObject]:
        """The objects of an owner's versions."""
        async with self._database.transaction(Principal(owner_id), read_only=True) as tx:
            return await ObjectStore(tx).versions()

    async def lost(self, owner_id: UUID, found: StoredObject) -> None:
        """Mark the version whose bytes are not there: its owner is shown that."""
        log.error("lora.damaged", extra={"key": found.key, "reason": "missing"})
        async with self._database.transaction(Principal(owner_id)) as tx:
            store = LoraStore(tx)
            version = await store.version(found.lora_id, found.version)
            if version is not None and version.object_key == found.key:
                await store.set_bytes(version, found.key, VersionState.DAMAGED)

"""What the library knows of files on ComfyUI's disk: whose they are, and who needs them."""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from ...database import Database
from ...principal import SYSTEM, Principal
from ..models import HeldFiles, LoraPin, VersionState
from ..store import LoraStore
from ..store.held import HeldStore
from ..store.shares import SharedLoras

log = logging.getLogger(__name__)


class Records(Protocol):
    """The library, as the disk asks it."""

    async def held(self) -> Sequence[HeldFiles]:
        """What every unfinished run pins."""

    async def known(self, owner_id: UUID, filenames: Collection[str]) -> Mapping[str, LoraPin]:
        """The files of these names that an account may have in its folder."""

    async def damaged(self, pin: LoraPin, reason: str) -> None:
        """The store does not give what was uploaded."""


class LibraryRecords:
    """The Records of the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def held(self) -> Sequence[HeldFiles]:
        """See Records."""
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            return await HeldStore(tx).all()

    async def known(self, owner_id: UUID, filenames: Collection[str]) -> Mapping[str, LoraPin]:
        """See Records: the account's own, and what is shared with it."""
        who = Principal(owner_id)
        async with self._database.transaction(who, read_only=True) as tx:
            found = {
                **await SharedLoras(tx).by_filename(filenames),
                **await LoraStore(tx).by_filename(filenames),
            }
        return {name: lora.pin(who.folder, version) for name, (lora, version) in found.items()}

    async def damaged(self, pin: LoraPin, reason: str) -> None:
        """See Records: the version is marked, and its owner is shown that."""
        log.error(
            "lora.damaged",
            extra={"lora_id": str(pin.lora_id), "version": pin.version, "reason": reason},
        )
        async with self._database.transaction(Principal(pin.owner_id)) as tx:
            store = LoraStore(tx)
            version = await store.version(pin.lora_id, pin.version)
            # it may have been uploaded again meanwhile, under another key
            if version is not None and version.object_key == pin.object_key:
                await store.set_bytes(version, pin.object_key, VersionState.DAMAGED)


class NoRecords:
    """The Records of a disk without a library: nobody needs anything."""

    async def held(self) -> Sequence[HeldFiles]:
        """See Records."""
        return ()

    async def known(self, owner_id: UUID, filenames: Collection[str]) -> Mapping[str, LoraPin]:  # noqa: ARG002
        """See Records."""
        return {}

    async def damaged(self, pin: LoraPin, reason: str) -> None:
        """See Records."""

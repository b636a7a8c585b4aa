"""Files on ComfyUI's disk that nobody in whose folder they are may use any more."""

import logging
from collections.abc import Collection, Sequence
from uuid import UUID

from ..database import Database
from ..errors import AtelierError
from ..principal import SYSTEM, Principal
from .disk import LoraSync
from .models import Lora, LoraVersion
from .store import LoraStore
from .store.held import HeldStore
from .store.shares import SharedLoras

log = logging.getLogger(__name__)


class UnneededFiles:
    """Removes them at once; what fails is left to the scan of the disk."""

    def __init__(self, database: Database, sync: LoraSync) -> None:
        self._database = database
        self._sync = sync

    async def remove(
        self, lora: Lora, versions: Sequence[LoraVersion], accounts: Collection[UUID]
    ) -> None:
        """Take these versions out of these accounts' folders.

        Stays: what a run holds on to, and what the account has or is given by another name.
        """
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            held = {pin.path for run in await HeldStore(tx).all() for pin in run.pins}
        for who in map(Principal, accounts):
            filenames = {version.filename for version in versions}
            async with self._database.transaction(who, read_only=True) as tx:
                known = {
                    *await LoraStore(tx).by_filename(filenames),
                    *await SharedLoras(tx).by_filename(filenames),
                }
            for version in versions:
                pin = lora.pin(who.folder, version)
                if version.filename in known or pin.path in held:
                    continue
                try:
                    await self._sync.remove(pin)
                except AtelierError as error:
                    extra = {"path": str(pin.path), "code": error.code}
                    log.warning("lora.not_removed", extra=extra)

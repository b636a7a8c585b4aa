"""Forgetting uploads that nobody went on with."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from ..database import Database
from ..principal import SYSTEM, Principal
from .files import UploadFiles
from .store import PairsUploads, UploadStore


class UploadExpiry:
    """Removes what has expired on one pair, also beside the sidecar that serves it."""

    def __init__(
        self, database: Database, files: UploadFiles, *, worker_id: str, seconds: int
    ) -> None:
        self._database = database
        self._files = files
        self._worker_id = worker_id
        self._life = timedelta(seconds=seconds)

    async def sweep(self, now: datetime, *, dry_run: bool) -> Sequence[str]:
        """Forget uploads that have expired, and files that no upload names; which they were.

        Not those whose file was written to of late: somebody still sends.
        """
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            store = PairsUploads(tx)
            known = {upload_id for upload_id, _ in await store.every(self._worker_id)}
            expired = dict(await store.expired(self._worker_id, now))
        strays = await self._files.ids() - known
        swept = []
        for upload_id in sorted({*expired, *strays}, key=str):
            if await self._files.age(upload_id, now) <= self._life:
                continue
            swept.append(str(upload_id))
            if not dry_run:
                await self._forget(upload_id, expired.get(upload_id))
        return swept

    async def _forget(self, upload_id: UUID, owner_id: UUID | None) -> None:
        if owner_id is not None:
            async with self._database.transaction(Principal(owner_id)) as tx:
                await UploadStore(tx).delete(upload_id)
        await self._files.remove(upload_id)

"""Which runs there are, for who looks after their outputs in the blob store."""

from collections.abc import Collection
from uuid import UUID

from ..database import Database
from ..principal import Principal
from .store import RunStore


class RunObjects:
    """Reads as each owner."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def there(self, owner_id: UUID, run_ids: Collection[UUID]) -> set[UUID]:
        """Those of an owner's runs that have not been deleted."""
        async with self._database.transaction(Principal(owner_id), read_only=True) as tx:
            return await RunStore(tx).there(run_ids)

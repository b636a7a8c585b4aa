"""Letting others run with a LoRA, and no longer."""

import logging
from collections.abc import Collection, Sequence
from uuid import UUID

from ..accounts.people import People
from ..clock import Clock, NewId
from ..database import Database, Transaction
from ..errors import InvalidError, NotFoundError
from ..principal import Principal
from .models import Lora, Share, Shared
from .removal import UnneededFiles
from .store import LoraStore
from .store.shares import SharedLoras, ShareStore

log = logging.getLogger(__name__)


async def seen(tx: Transaction, lora_id: UUID) -> Lora:
    """A LoRA of the asker's own, or one that is shared with the asker. NotFoundError."""
    lora = await LoraStore(tx).get(lora_id) or await SharedLoras(tx).get(lora_id)
    if lora is None:
        raise NotFoundError("lora")
    return lora


class LoraSharing:
    """Whom somebody's LoRAs are shared with. Someone else's LoRA is NotFoundError."""

    def __init__(
        self,
        database: Database,
        files: UnneededFiles,
        people: People,
        clock: Clock,
        new_id: NewId,
    ) -> None:
        self._database = database
        self._files = files
        self._people = people
        self._clock = clock
        self._new_id = new_id

    async def shared(self, principal: Principal, lora_id: UUID) -> Shared:
        """Whom it is shared with. NotFoundError."""
        async with self._database.transaction(principal, read_only=True) as tx:
            await _own(tx, lora_id)
            shares = await ShareStore(tx).of(lora_id)
        ids = [share.grantee_id for share in shares if share.grantee_id is not None]
        return Shared(
            any(share.grantee_id is None for share in shares),
            any(share.can_download for share in shares),
            await self._people.labels(ids) if ids else {},
        )

    async def share(
        self,
        principal: Principal,
        lora_id: UUID,
        *,
        everyone: bool,
        users: Collection[str],
        can_download: bool,
    ) -> Shared:
        """Share it with these, e-mails or ids, and with nobody else.

        NotFoundError; InvalidError("unknown_user") with all whom nobody is known by, or who may not
        sign in. Oneself among them changes nothing.
        """
        async with self._database.transaction(principal, read_only=True) as tx:
            await _own(tx, lora_id)
        grantees: set[UUID | None] = set(await self._known(users) - {principal.id})
        if everyone:
            grantees.add(None)
        shares = [Share(grantee_id, can_download) for grantee_id in grantees]
        async with self._database.transaction(principal) as tx:
            await tx.alone("loras")
            lora = await _own(tx, lora_id)
            versions = await LoraStore(tx).versions(lora_id)
            before = await ShareStore(tx).of(lora_id)
            await ShareStore(tx).replace(lora_id, shares, self._clock, self._new_id)
        log.info("lora.shared", extra={"lora": str(lora_id), "with": len(shares)})
        lost = _people_in(before) - _people_in(shares)
        if lost and not everyone:
            await self._files.remove(lora, versions, lost)
        return await self.shared(principal, lora_id)

    async def _known(self, users: Collection[str]) -> set[UUID]:
        found = await self._people.named(users) if users else {}
        unknown = [name for name in users if name not in found or not found[name].is_enabled]
        if unknown:
            quoted = ", ".join(f"'{name[:80]}'" for name in unknown)
            raise InvalidError(
                "unknown_user", f"Nobody here is called {quoted}.", {"users": unknown}
            )
        return {account.id for account in found.values()}


async def _own(tx: Transaction, lora_id: UUID) -> Lora:
    lora = await LoraStore(tx).get(lora_id)
    if lora is None:
        raise NotFoundError("lora")
    return lora


def _people_in(shares: Sequence[Share]) -> set[UUID]:
    return {share.grantee_id for share in shares if share.grantee_id is not None}

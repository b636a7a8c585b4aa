"""The SQL of sharing: what an owner gives, and what others then see."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from ...clock import Clock, NewId
from ...database import Transaction
from ...database.pages import Page, cut, newest_first
from ...database.tables import lora_shares, lora_versions, loras
from ..models import Access, Lora, LoraVersion, Share
from ..views import LoraQuery
from .columns import VERSION, lora_of, matching, place, shown, version_of


class ShareStore:
    """Whom one's own LoRAs are shared with, inside the owner's transaction."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def of(self, lora_id: UUID) -> Sequence[Share]:
        """Everybody whom a LoRA is shared with, in the order of their ids."""
        query = (
            sa.select(lora_shares.c.grantee_id, lora_shares.c.can_download)
            .where(self._tx.mine(lora_shares), lora_shares.c.lora_id == lora_id)
            .order_by(lora_shares.c.grantee_id)
        )
        return [Share(**row) for row in (await self._tx.execute(query)).mappings()]

    async def replace(
        self, lora_id: UUID, shares: Sequence[Share], clock: Clock, new_id: NewId
    ) -> None:
        """Share one's own LoRA with these, and with nobody else."""
        await self._tx.execute(
            lora_shares.delete().where(self._tx.mine(lora_shares), lora_shares.c.lora_id == lora_id)
        )
        for share in shares:
            values = {
                "id": new_id(),
                "lora_id": lora_id,
                "owner_id": self._tx.principal.id,
                "grantee_id": share.grantee_id,
                "can_download": share.can_download,
                "created_at": clock.now(),
            }
            await self._tx.execute(lora_shares.insert().values(values))


class SharedLoras:
    """LoRAs of others that are shared with the asker, inside the asker's transaction."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def get(self, lora_id: UUID) -> Lora | None:
        """One, or None."""
        query = self._shown().where(self._is_shared(loras.c.id), loras.c.id == lora_id)
        row = (await self._tx.execute(query)).one_or_none()
        return None if row is None else self._lora(row)

    async def page(self, asked: LoraQuery, *, with_own: bool) -> Page[Lora]:
        """Newest first, among the asker's own if that is wished."""
        condition = self._is_shared(loras.c.id)
        if with_own:
            condition = condition | self._tx.mine(loras)
        query = matching(self._shown().where(condition), asked)
        rows = (await self._tx.execute(newest_first(query, loras, asked))).all()
        return cut([self._lora(row) for row in rows], asked, place)

    async def names(self) -> Sequence[tuple[UUID, str]]:
        """Each one's owner and name, newest first."""
        query = (
            sa.select(loras.c.owner_id, loras.c.name)
            .where(self._is_shared(loras.c.id))
            .order_by(loras.c.created_at.desc(), loras.c.id.desc())
        )
        return [(row.owner_id, row.name) for row in (await self._tx.execute(query)).all()]

    async def by_stem(self, stems: Iterable[str]) -> Sequence[Lora]:
        """Those that have one of these stems; two people may have given one name."""
        query = self._shown().where(self._is_shared(loras.c.id), loras.c.stem.in_(list(stems)))
        rows = (await self._tx.execute(query.order_by(loras.c.created_at, loras.c.id))).all()
        return [self._lora(row) for row in rows]

    async def by_filename(self, filenames: Iterable[str]) -> dict[str, tuple[Lora, LoraVersion]]:
        """The versions whose files are called so on disk, each with its LoRA; of several the one
        that is stored longest."""
        query = (
            sa.select(*VERSION)
            .where(
                self._is_shared(lora_versions.c.lora_id),
                lora_versions.c.filename.in_(list(filenames)),
            )
            .order_by(lora_versions.c.created_at, lora_versions.c.lora_id)
        )
        found: dict[str, tuple[Lora, LoraVersion]] = {}
        for row in (await self._tx.execute(query)).all():
            if row.filename not in found and (lora := await self.get(row.lora_id)) is not None:
                found[row.filename] = (lora, version_of(row))
        return found

    async def version(self, lora_id: UUID, version: int) -> LoraVersion | None:
        """A version, or None."""
        query = self._versions_of(lora_id).where(lora_versions.c.version == version)
        row = (await self._tx.execute(query)).one_or_none()
        return None if row is None else version_of(row)

    async def versions(self, lora_id: UUID) -> Sequence[LoraVersion]:
        """All of them, newest first."""
        query = self._versions_of(lora_id).order_by(lora_versions.c.version.desc())
        return [version_of(row) for row in (await self._tx.execute(query)).all()]

    def _versions_of(self, lora_id: UUID) -> sa.Select[Any]:
        mine = lora_versions.c.lora_id == lora_id
        return sa.select(*VERSION).where(self._is_shared(lora_versions.c.lora_id), mine)

    def _shown(self) -> sa.Select[Any]:
        """With whether the asker may take the file: one of two shares may say so."""
        granted = sa.select(sa.literal(1)).where(
            lora_shares.c.lora_id == loras.c.id,
            lora_shares.c.can_download,
            self._tx.granted(lora_shares),
        )
        return shown().add_columns(granted.exists().label("can_download"))

    def _is_shared(self, lora_id: sa.Column[Any]) -> sa.ColumnElement[bool]:
        granted = sa.select(lora_shares.c.lora_id).where(self._tx.granted(lora_shares))
        return lora_id.in_(granted)

    def _lora(self, row: sa.Row[Any]) -> Lora:
        if row.owner_id == self._tx.principal.id:
            return lora_of(row)
        return lora_of(row, Access.DOWNLOAD if row.can_download else Access.RUN)

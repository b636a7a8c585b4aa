"""The SQL of LoRAs and their versions. Every statement names the owner.

A version is written when its bytes are in the blob store.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from ...database import Transaction
from ...database.pages import Page, cut, newest_first
from ...database.tables import lora_shares, lora_versions, loras, uploads
from ...errors import ConflictError
from ..models import Lora, LoraVersion, VersionState
from ..names import LoraName
from ..views import LoraQuery
from .columns import (
    METADATA,
    VERSION,
    VERSION_FIELDS,
    lora_of,
    matching,
    place,
    shown,
    version_of,
)


class LoraStore:
    """One person's LoRAs, inside that person's transaction."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._owner = tx.principal.id

    async def get(self, lora_id: UUID) -> Lora | None:
        """One, or None."""
        query = self._own(shown()).where(loras.c.id == lora_id)
        row = (await self._tx.execute(query)).one_or_none()
        return None if row is None else lora_of(row)

    async def page(self, asked: LoraQuery) -> Page[Lora]:
        """Newest first."""
        query = matching(self._own(shown()), asked)
        rows = (await self._tx.execute(newest_first(query, loras, asked))).all()
        return cut([lora_of(row) for row in rows], asked, place)

    async def names(self) -> Sequence[str]:
        """Every name, newest first."""
        query = (
            sa.select(loras.c.name)
            .where(self._tx.mine(loras))
            .order_by(loras.c.created_at.desc(), loras.c.id.desc())
        )
        return (await self._tx.execute(query)).scalars().all()

    async def by_stem(self, stems: Iterable[str]) -> dict[str, Lora]:
        """Those that have one of these stems."""
        query = self._own(shown()).where(loras.c.stem.in_(list(stems)))
        found = [lora_of(row) for row in (await self._tx.execute(query)).all()]
        return {lora.stem: lora for lora in found}

    async def by_filename(self, filenames: Iterable[str]) -> dict[str, tuple[Lora, LoraVersion]]:
        """The versions whose files are called so on disk, each with its LoRA.

        Two LoRAs may have had the same name with the same bytes: then it is one of them.
        """
        query = sa.select(*VERSION).where(
            self._tx.mine(lora_versions), lora_versions.c.filename.in_(list(filenames))
        )
        found = {}
        for row in (await self._tx.execute(query)).all():
            lora = await self.get(row.lora_id)
            if lora is not None:
                found[row.filename] = (lora, version_of(row))
        return found

    async def version(self, lora_id: UUID, version: int) -> LoraVersion | None:
        """A version, or None."""
        query = sa.select(*VERSION).where(*self._of(lora_id), lora_versions.c.version == version)
        row = (await self._tx.execute(query)).one_or_none()
        return None if row is None else version_of(row)

    async def versions(self, lora_id: UUID) -> Sequence[LoraVersion]:
        """All of them, newest first."""
        query = (
            sa.select(*VERSION).where(*self._of(lora_id)).order_by(lora_versions.c.version.desc())
        )
        return [version_of(row) for row in (await self._tx.execute(query)).all()]

    async def with_sha256(self, lora_id: UUID, sha256: str) -> LoraVersion | None:
        """The version that has these bytes."""
        query = (
            sa.select(*VERSION)
            .where(*self._of(lora_id), lora_versions.c.sha256 == sha256)
            .order_by(lora_versions.c.version.desc())
            .limit(1)
        )
        row = (await self._tx.execute(query)).one_or_none()
        return None if row is None else version_of(row)

    async def sha256s_called(self, filename: str) -> set[str]:
        """The bytes of the versions whose files are called so on disk."""
        query = sa.select(lora_versions.c.sha256).where(
            self._tx.mine(lora_versions), lora_versions.c.filename == filename
        )
        return set((await self._tx.execute(query)).scalars().all())

    async def kept(self, *, but: UUID | None = None) -> tuple[int, int]:
        """How many LoRAs there are, and the bytes of all their versions and of unfinished uploads.

        ``but`` is an upload that is not counted.
        """
        count = sa.select(sa.func.count()).where(self._tx.mine(loras)).scalar_subquery()
        stored = sa.select(sa.func.coalesce(sa.func.sum(lora_versions.c.bytes), 0)).where(
            self._tx.mine(lora_versions)
        )
        coming = sa.select(sa.func.coalesce(sa.func.sum(uploads.c.length), 0)).where(
            self._tx.mine(uploads), uploads.c.state.in_(("receiving", "finishing"))
        )
        if but is not None:
            coming = coming.where(uploads.c.id != but)
        query = sa.select(count, stored.scalar_subquery(), coming.scalar_subquery())
        found: tuple[Any, ...] = tuple((await self._tx.execute(query)).one())
        return int(found[0]), int(found[1]) + int(found[2])

    async def with_stem(self, stem: str) -> UUID | None:
        """The id of the LoRA with this stem."""
        query = sa.select(loras.c.id).where(self._tx.mine(loras), loras.c.stem == stem)
        found: UUID | None = (await self._tx.execute(query)).scalar_one_or_none()
        return found

    async def stem_of(self, lora_id: UUID) -> str:
        """The stem of a LoRA that is there."""
        query = sa.select(loras.c.stem).where(self._tx.mine(loras), loras.c.id == lora_id)
        return str((await self._tx.execute(query)).scalar_one())

    async def add(self, name: LoraName, new_id: UUID, at: datetime) -> None:
        """Make a LoRA, to which this transaction adds a version. ConflictError("lora_name_taken")
        when another upload makes it at this moment."""
        values = {
            "id": new_id,
            "owner_id": self._owner,
            "name": name.name,
            "stem": name.stem,
            "tags": [],
            "trigger_words": [],
            "head_version": 0,
            "created_at": at,
            "updated_at": at,
        }
        with self._tx.unique_or(_name_taken(name.name)):
            await self._tx.execute(loras.insert().values(values))

    async def add_version(
        self, version: LoraVersion, source: str, source_ref: str | None
    ) -> LoraVersion:
        """Write a version whose bytes are stored; the answer has its number, which is the next.

        The number of a deleted one is not given again.
        """
        mine = (self._tx.mine(loras), loras.c.id == version.lora_id)
        count = loras.update().where(*mine).values(last_version=loras.c.last_version + 1)
        await self._tx.execute(count)
        newest = await self._tx.execute(sa.select(loras.c.last_version).where(*mine))
        numbered = replace(version, version=newest.scalar_one())
        values = {name: getattr(numbered, name) for name in VERSION_FIELDS}
        values["metadata"] = METADATA.dump_python(numbered.metadata, mode="json")
        values |= {"owner_id": self._owner, "source": source, "source_ref": source_ref}
        await self._tx.execute(lora_versions.insert().values(values))
        return numbered

    async def set_bytes(self, version: LoraVersion, object_key: str, state: VersionState) -> None:
        """Say where a version's bytes are, and how."""
        await self._tx.execute(
            lora_versions.update()
            .where(*self._of(version.lora_id), lora_versions.c.version == version.version)
            .values(object_key=object_key, state=state)
        )

    async def make_head(self, version: LoraVersion, at: datetime) -> None:
        """Let the LoRA stand for this version, and show what that file says about itself."""
        stored = METADATA.dump_python(version.metadata, mode="json")
        await self._change(
            version.lora_id,
            head_version=version.version,
            base_model=version.metadata.base_model,
            trigger_words=stored["trigger_words"],
            updated_at=at,
        )

    async def edit(
        self,
        lora_id: UUID,
        at: datetime,
        name: LoraName | None,
        description: str | None,
        tags: Sequence[str] | None,
    ) -> None:
        """Change what is not None. ConflictError("lora_name_taken")."""
        values: dict[str, Any] = {"updated_at": at}
        if name is not None:
            values |= {"name": name.name, "stem": name.stem}
        if description is not None:
            values["description"] = description
        if tags is not None:
            values["tags"] = list(dict.fromkeys(tags))
        with self._tx.unique_or(_name_taken("" if name is None else name.name)):
            await self._change(lora_id, **values)

    async def delete(self, lora_id: UUID) -> None:
        """Remove a LoRA with all its versions and shares."""
        for table in (lora_shares, lora_versions):
            await self._tx.execute(
                table.delete().where(self._tx.mine(table), table.c.lora_id == lora_id)
            )
        await self._tx.execute(loras.delete().where(self._tx.mine(loras), loras.c.id == lora_id))

    async def delete_version(self, lora_id: UUID, version: int) -> None:
        """Remove one version, which must not be the head."""
        await self._tx.execute(
            lora_versions.delete().where(*self._of(lora_id), lora_versions.c.version == version)
        )

    def _own(self, query: sa.Select[Any]) -> sa.Select[Any]:
        return query.where(self._tx.mine(loras))

    def _of(self, lora_id: UUID) -> tuple[sa.ColumnElement[bool], ...]:
        return self._tx.mine(lora_versions), lora_versions.c.lora_id == lora_id

    async def _change(self, lora_id: UUID, **values: Any) -> None:
        await self._tx.execute(
            loras.update().where(self._tx.mine(loras), loras.c.id == lora_id).values(values)
        )


def _name_taken(name: str) -> ConflictError:
    """What is answered when a stem must not be used twice."""
    return ConflictError(
        "lora_name_taken", f"You already have a LoRA named '{name}'.", {"name": name}
    )

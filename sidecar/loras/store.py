"""The SQL of LoRAs and their versions. Every statement names the owner.

A version is ``pending`` until its bytes are in the blob store; only ``stored`` ones are shown. A
LoRA without a stored version (``head_version`` 0) is shown to nobody either.
"""

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import TypeAdapter

from ..database import Transaction
from ..database.pages import Cursor, Page, cut, has_tag, newest_first
from ..database.tables import lora_versions, loras, runs
from ..errors import ConflictError
from .models import Lora, LoraQuery, LoraVersion
from .names import LoraName, stem_of
from .trainer_metadata import TrainerMetadata

_UNFINISHED = ("queued", "preparing", "running")
_metadata = TypeAdapter(TrainerMetadata)


class LoraStore:
    """One person's LoRAs, inside that person's transaction."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._owner = tx.principal.id

    async def get(self, lora_id: UUID) -> Lora | None:
        """One, or None."""
        query = self._own(_shown()).where(loras.c.id == lora_id)
        row = (await self._tx.execute(query)).one_or_none()
        return None if row is None else _lora(row)

    async def page(self, asked: LoraQuery) -> Page[Lora]:
        """Newest first."""
        query = self._own(_shown())
        if asked.q is not None:
            query = query.where(
                loras.c.stem.contains(stem_of(asked.q), autoescape=True)
                | loras.c.description.icontains(asked.q, autoescape=True)
            )
        if asked.tag is not None:
            query = query.where(has_tag(loras.c.tags, asked.tag))
        if asked.base_model is not None:
            query = query.where(loras.c.base_model == asked.base_model)
        rows = (await self._tx.execute(newest_first(query, loras, asked))).all()
        return cut([_lora(row) for row in rows], asked, _place)

    async def names(self) -> Sequence[str]:
        """Every name, newest first."""
        query = (
            sa.select(loras.c.name)
            .where(self._tx.mine(loras), loras.c.head_version > 0)
            .order_by(loras.c.created_at.desc(), loras.c.id.desc())
        )
        return (await self._tx.execute(query)).scalars().all()

    async def by_stem(self, stems: Iterable[str]) -> dict[str, Lora]:
        """Those that have one of these stems."""
        query = self._own(_shown()).where(loras.c.stem.in_(list(stems)))
        found = [_lora(row) for row in (await self._tx.execute(query)).all()]
        return {lora.stem: lora for lora in found}

    async def by_object_key(self, keys: Iterable[str]) -> dict[str, tuple[Lora, LoraVersion]]:
        """The stored versions that have one of these keys, each with its LoRA."""
        query = sa.select(*_VERSION).where(
            self._tx.mine(lora_versions),
            lora_versions.c.state == "stored",
            lora_versions.c.object_key.in_(list(keys)),
        )
        found = {}
        for row in (await self._tx.execute(query)).all():
            lora = await self.get(row.lora_id)
            if lora is not None:
                found[row.object_key] = (lora, _version(row))
        return found

    async def version(self, lora_id: UUID, version: int) -> LoraVersion | None:
        """A stored version, or None."""
        query = sa.select(*_VERSION).where(
            *self._of(lora_id),
            lora_versions.c.state == "stored",
            lora_versions.c.version == version,
        )
        row = (await self._tx.execute(query)).one_or_none()
        return None if row is None else _version(row)

    async def versions(self, lora_id: UUID) -> Sequence[LoraVersion]:
        """The stored versions, newest first."""
        query = (
            sa.select(*_VERSION)
            .where(*self._of(lora_id), lora_versions.c.state == "stored")
            .order_by(lora_versions.c.version.desc())
        )
        return [_version(row) for row in (await self._tx.execute(query)).all()]

    async def with_sha256(self, lora_id: UUID, sha256: str) -> tuple[LoraVersion, bool] | None:
        """The version, stored or pending, that has these bytes, and whether it is stored."""
        query = (
            sa.select(*_VERSION, lora_versions.c.state)
            .where(*self._of(lora_id), lora_versions.c.sha256 == sha256)
            .order_by(lora_versions.c.state.desc(), lora_versions.c.version.desc())
            .limit(1)
        )
        row = (await self._tx.execute(query)).one_or_none()
        return None if row is None else (_version(row), row.state == "stored")

    async def sha256s_under(self, key: str) -> set[str]:
        """The bytes that versions, stored or pending, keep or will keep under this key."""
        query = sa.select(lora_versions.c.sha256).where(
            self._tx.mine(lora_versions), lora_versions.c.object_key == key
        )
        return set((await self._tx.execute(query)).scalars().all())

    async def bytes_kept(self) -> int:
        """The bytes of all versions, on their way or stored."""
        total = sa.select(sa.func.coalesce(sa.func.sum(lora_versions.c.bytes), 0))
        found = await self._tx.execute(total.where(self._tx.mine(lora_versions)))
        return int(found.scalar_one())

    async def is_pinned(self, lora_id: UUID) -> bool:
        """Whether an unfinished run holds on to it."""
        query = sa.select(
            sa.exists().where(
                self._tx.mine(runs),
                runs.c.status.in_(_UNFINISHED),
                sa.cast(runs.c.loras, sa.Text).contains(str(lora_id)),
            )
        )
        return bool((await self._tx.execute(query)).scalar_one())

    async def claim(self, name: LoraName, new_id: UUID, at: datetime) -> UUID:
        """The id of the LoRA with this stem, shown or not; made, unshown, where there is none.

        ConflictError("lora_name_taken") when another upload makes it at this moment.
        """
        query = sa.select(loras.c.id).where(self._tx.mine(loras), loras.c.stem == name.stem)
        found: UUID | None = (await self._tx.execute(query)).scalar_one_or_none()
        if found is not None:
            return found
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
        return new_id

    async def add_pending(self, version: LoraVersion, source: str) -> LoraVersion:
        """Say that bytes are on their way; the answer has the version's number, which is the next.

        ConflictError("lora_changed") when another upload takes that number at this moment.
        """
        newest = sa.select(sa.func.coalesce(sa.func.max(lora_versions.c.version), 0)).where(
            *self._of(version.lora_id)
        )
        numbered = replace(version, version=(await self._tx.execute(newest)).scalar_one() + 1)
        values = {name: getattr(numbered, name) for name in _VERSION_FIELDS}
        values["metadata"] = _metadata.dump_python(numbered.metadata, mode="json")
        values |= {"owner_id": self._owner, "source": source, "state": "pending"}
        changed = ConflictError("lora_changed", "Another upload changed it at this moment.")
        with self._tx.unique_or(changed):
            await self._tx.execute(lora_versions.insert().values(values))
        return numbered

    async def mark_stored(self, version: LoraVersion) -> bool:
        """Say that the bytes have arrived; False when somebody said so before, or deleted it."""
        change = (
            lora_versions.update()
            .where(
                *self._of(version.lora_id),
                lora_versions.c.version == version.version,
                lora_versions.c.state == "pending",
            )
            .values(state="stored")
        )
        return (await self._tx.execute(change)).rowcount == 1

    async def make_head(self, version: LoraVersion, at: datetime) -> None:
        """Let the LoRA stand for this version, and show what that file says about itself."""
        stored = _metadata.dump_python(version.metadata, mode="json")
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

    async def delete(self, lora_id: UUID) -> set[str]:
        """Remove a LoRA with all its versions; the object keys that nothing names any more."""
        query = sa.select(lora_versions.c.object_key).where(*self._of(lora_id))
        keys = set((await self._tx.execute(query)).scalars().all())
        await self._tx.execute(lora_versions.delete().where(*self._of(lora_id)))
        await self._tx.execute(loras.delete().where(self._tx.mine(loras), loras.c.id == lora_id))
        return {key for key in keys if not await self.sha256s_under(key)}

    async def forget_abandoned(self, before: datetime) -> None:
        """Remove what uploads that a crash ended before then left: nobody was ever shown it."""
        await self._tx.execute(
            lora_versions.delete().where(
                self._tx.mine(lora_versions),
                lora_versions.c.state == "pending",
                lora_versions.c.created_at < before,
            )
        )
        await self._tx.execute(
            loras.delete().where(
                self._tx.mine(loras),
                loras.c.head_version == 0,
                loras.c.created_at < before,
                ~sa.exists().where(lora_versions.c.lora_id == loras.c.id),
            )
        )

    def _own(self, query: sa.Select[Any]) -> sa.Select[Any]:
        return query.where(self._tx.mine(loras))

    def _of(self, lora_id: UUID) -> tuple[sa.ColumnElement[bool], ...]:
        return self._tx.mine(lora_versions), lora_versions.c.lora_id == lora_id

    async def _change(self, lora_id: UUID, **values: Any) -> None:
        await self._tx.execute(
            loras.update().where(self._tx.mine(loras), loras.c.id == lora_id).values(values)
        )


_VERSION_FIELDS = tuple(field.name for field in fields(LoraVersion))
_VERSION = tuple(lora_versions.c[name] for name in _VERSION_FIELDS)
_LORA_FIELDS = ("id", "name", "stem", "description", "tags", "created_at", "updated_at")


def _shown() -> sa.Select[Any]:
    """LoRAs with their heads; the version's columns come as ``head_<name>``."""
    heads = [column.label(f"head_{column.name}") for column in _VERSION]
    return sa.select(*(loras.c[name] for name in _LORA_FIELDS), *heads).join(
        lora_versions,
        (lora_versions.c.lora_id == loras.c.id)
        & (lora_versions.c.version == loras.c.head_version)
        & (lora_versions.c.owner_id == loras.c.owner_id)
        & (lora_versions.c.state == "stored"),
    )


def _lora(row: sa.Row[Any]) -> Lora:
    values = row._mapping
    head = {name: values[f"head_{name}"] for name in _VERSION_FIELDS}
    head["metadata"] = _metadata.validate_python(head["metadata"])
    return Lora(head=LoraVersion(**head), **{name: values[name] for name in _LORA_FIELDS})


def _version(row: sa.Row[Any]) -> LoraVersion:
    values = {name: row._mapping[name] for name in _VERSION_FIELDS}
    values["metadata"] = _metadata.validate_python(values["metadata"])
    return LoraVersion(**values)


def _place(lora: Lora) -> Cursor:
    return Cursor(lora.created_at, lora.id)


def _name_taken(name: str) -> ConflictError:
    """What is answered when a stem must not be used twice."""
    return ConflictError(
        "lora_name_taken", f"You already have a LoRA named '{name}'.", {"name": name}
    )

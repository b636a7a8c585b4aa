"""What is read of LoRAs and versions, and the values that it becomes."""

from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from ...database.pages import Cursor, has_tag
from ...database.tables import lora_versions, loras
from ..models import Access, Lora, LoraVersion, VersionState
from ..names import stem_of
from ..trainer_metadata import TrainerMetadata
from ..views import LoraQuery

METADATA = TypeAdapter(TrainerMetadata)
VERSION_FIELDS = tuple(field.name for field in fields(LoraVersion))
VERSION = tuple(lora_versions.c[name] for name in VERSION_FIELDS)
_LORA_FIELDS = (
    *("id", "owner_id", "name", "stem", "description", "tags", "created_at", "updated_at"),
)


def shown() -> sa.Select[Any]:
    """LoRAs with their heads; the version's columns come as ``head_<name>``."""
    heads = [column.label(f"head_{column.name}") for column in VERSION]
    return sa.select(*(loras.c[name] for name in _LORA_FIELDS), *heads).join(
        lora_versions,
        (lora_versions.c.lora_id == loras.c.id)
        & (lora_versions.c.version == loras.c.head_version)
        & (lora_versions.c.owner_id == loras.c.owner_id),
    )


def lora_of(row: sa.Row[Any], access: Access = Access.OWNER) -> Lora:
    """The LoRA in a row that ``shown`` gave."""
    values = row._mapping
    head = {name: values[f"head_{name}"] for name in VERSION_FIELDS}
    own = {name: values[name] for name in _LORA_FIELDS}
    return Lora(head=_checked(head), access=access, **own)


def version_of(row: sa.Row[Any]) -> LoraVersion:
    """The version in a row of ``VERSION``."""
    return _checked({name: row._mapping[name] for name in VERSION_FIELDS})


def matching(query: sa.Select[Any], asked: LoraQuery) -> sa.Select[Any]:
    """Those that somebody searches for."""
    if asked.q is not None:
        query = query.where(
            loras.c.stem.contains(stem_of(asked.q), autoescape=True)
            | loras.c.description.icontains(asked.q, autoescape=True)
        )
    if asked.tag is not None:
        query = query.where(has_tag(loras.c.tags, asked.tag))
    if asked.base_model is not None:
        query = query.where(loras.c.base_model == asked.base_model)
    return query


def place(lora: Lora) -> Cursor:
    """Where a LoRA stands in a list."""
    return Cursor(lora.created_at, lora.id)


def _checked(values: dict[str, Any]) -> LoraVersion:
    values["metadata"] = METADATA.validate_python(values["metadata"])
    values["state"] = VersionState(values["state"])
    return LoraVersion(**values)

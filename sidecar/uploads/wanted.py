"""What a client wants an upload to become, as its metadata says."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from ..errors import InvalidError
from ..loras.names import lora_name
from ..loras.uploads import LoraFields

FIELDS = ("name", "description", "tags")


@dataclass(frozen=True)
class Wanted:
    """Fields of the LoRA, the file's own name, and whose next version it shall be."""

    fields: LoraFields
    filename: str | None
    lora_id: UUID | None

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> "Wanted":
        """Read ``name``, ``filename``, ``description``, ``tags`` and ``lora_id``; clients send
        others, which mean nothing here. InvalidError("invalid_body" or "invalid_lora_name")."""
        fields = LoraFields.of_form({key: metadata[key] for key in FIELDS if key in metadata})
        filename = metadata.get("filename") or None
        lora_id = _lora_id(metadata.get("lora_id"))
        if lora_id is None and (called := fields.name or filename) is not None:
            lora_name(called)
        return cls(fields, filename, lora_id)


def _lora_id(text: str | None) -> UUID | None:
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise InvalidError(
            "invalid_body",
            "Some fields cannot be accepted.",
            {"fields": {"lora_id": "expected an id"}},
        ) from None

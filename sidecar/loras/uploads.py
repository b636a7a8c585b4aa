"""A form as it arrives: its fields, and its file on the way to where it is kept."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import InvalidError
from .names import LoraName, lora_name
from .safetensors import CheckedFile
from .trainer_metadata import TrainerMetadata, read_metadata
from .views import Description, Tags, Text


@dataclass(frozen=True)
class TextPart:
    """A text field of an upload."""

    name: str
    value: str


@dataclass(frozen=True)
class FilePart:
    """The file of an upload, to be read before the next part is asked for."""

    filename: str | None
    chunks: AsyncIterator[bytes]


UploadParts: TypeAlias = AsyncIterator[TextPart | FilePart]


class LoraFields(BaseModel):
    """The text fields of an upload."""

    model_config = ConfigDict(extra="forbid")

    name: Text | None = None
    description: Description | None = None
    tags: Tags | None = None

    @classmethod
    def of_form(cls, texts: Mapping[str, str]) -> "LoraFields":
        """Read form fields: ``tags`` is a JSON list, or words between commas.

        InvalidError("invalid_body") names each field that does not fit.
        """
        values: dict[str, Any] = dict(texts)
        if "tags" in values:
            values["tags"] = _listed(values["tags"])
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            fields = {
                ".".join(map(str, problem["loc"])): problem["msg"]
                for problem in error.errors(include_url=False, include_context=False)
            }
            raise invalid_form(fields) from None


def invalid_form(fields: Mapping[str, str]) -> InvalidError:
    """What an upload with such fields is answered."""
    return InvalidError("invalid_body", "Some fields cannot be accepted.", {"fields": dict(fields)})


def _listed(text: str) -> Any:
    if not text.lstrip().startswith("["):
        return [word for word in text.split(",") if word.strip()]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


@dataclass(frozen=True)
class Upload:
    """A whole, valid file, and what came with it."""

    fields: LoraFields
    filename: str | None
    file: CheckedFile
    metadata: TrainerMetadata
    id: UUID | None = None
    """The resumable upload that it came by, if it did."""

    def name(self) -> LoraName:
        """What it shall be called: as asked, or like the file, or as its trainer called it.

        InvalidError("invalid_lora_name") when that is no name.
        """
        if self.fields.name is not None:
            return lora_name(self.fields.name)
        if self.filename:
            return lora_name(self.filename)
        if self.metadata.output_name:
            return lora_name(self.metadata.output_name)
        raise InvalidError(
            "invalid_lora_name", "The file has no name of its own: give it one.", {"names": [""]}
        )


async def receive(
    parts: UploadParts,
    store: Callable[[AsyncIterator[bytes]], Awaitable[CheckedFile]],
    read_fields: Callable[[dict[str, str]], LoraFields],
) -> Upload:
    """Take the parts in any order; the file goes to ``store``, which checks it.

    Each field is refused as soon as it has arrived. Raises what ``store`` and ``read_fields``
    raise, and InvalidError("invalid_body") for a missing or second part.
    """
    texts: dict[str, str] = {}
    fields = read_fields(texts)
    filename: str | None = None
    file: CheckedFile | None = None
    async for part in parts:
        if isinstance(part, FilePart):
            if file is not None:
                raise invalid_form({"file": "Given twice"})
            filename = part.filename
            file = await store(part.chunks)
        elif part.name in texts:
            raise invalid_form({part.name: "Given twice"})
        else:
            texts[part.name] = part.value
            fields = read_fields(texts)
    if file is None:
        raise invalid_form({"file": "Field required"})
    return Upload(fields, filename, file, read_metadata(file.header))


def any_field(texts: dict[str, str]) -> LoraFields:
    """For a LoRA: name, description and tags."""
    fields = LoraFields.of_form(texts)
    if fields.name is not None:
        lora_name(fields.name)
    return fields


def no_field(texts: dict[str, str]) -> LoraFields:
    """For a further version: nothing but the file."""
    if texts:
        raise invalid_form(dict.fromkeys(texts, "Extra inputs are not permitted"))
    return LoraFields()

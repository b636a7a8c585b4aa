"""Values of the LoRA library, and what its routes take and answer."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import Enum
from pathlib import PurePosixPath
from typing import Annotated, Any, TypeAlias
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints

from ..database.pages import Page, PageQuery
from .names import owner_of
from .safetensors import auto_v2
from .trainer_metadata import TrainerMetadata, TriggerWord

# PostgreSQL stores no NUL.
Text: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
Description: TypeAlias = Annotated[Text, Field(max_length=10_000)]
Tag: TypeAlias = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$"
    ),
]
Tags: TypeAlias = Annotated[list[Tag], Field(max_length=50)]


@dataclass(frozen=True)
class LoraPin:
    """One stored version, as a run holds on to it.

    ``path`` is where its file is below ComfyUI's LoRA folder, with ``/``, in the folder of whoever
    runs it: ``user-<uuid>/<stem>.<sha8>.safetensors``. ``bytes`` is the size; ``sha256`` lower-case
    hex.
    """

    lora_id: UUID
    name: str
    version: int
    sha256: str
    bytes: int
    object_key: str
    path: PurePosixPath

    @property
    def owner_id(self) -> UUID:
        """Whose LoRA it is; whoever it is shared with may run it."""
        return owner_of(self.object_key)


class VersionState(str, Enum):
    """Whether a version's bytes are what was uploaded, as far as anybody has noticed."""

    STORED = "stored"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class LoraVersion:
    """One stored file.

    ``autov3`` as in ``safetensors.CheckedFile``; ``bytes`` is its size; ``filename`` is what it is
    called on ComfyUI's disk, ``<stem>.<sha8>.safetensors`` with the stem that its LoRA had then.
    ``object_key`` is where the blob store has it, and tells nothing.
    """

    lora_id: UUID
    version: int
    sha256: str
    autov3: str
    bytes: int
    object_key: str
    filename: str
    state: VersionState
    metadata: TrainerMetadata
    created_at: datetime


@dataclass(frozen=True)
class Lora:
    """A name in somebody's library, with the version that it stands for."""

    id: UUID
    name: str
    stem: str
    description: str
    tags: Sequence[str]
    head: LoraVersion
    created_at: datetime
    updated_at: datetime

    def pin(self, folder: str, version: LoraVersion | None = None) -> LoraPin:
        """Hold on to a version, by default the head, for whose LoRA folder this is."""
        held = version or self.head
        return LoraPin(
            self.id,
            self.name,
            held.version,
            held.sha256,
            held.bytes,
            held.object_key,
            PurePosixPath(folder, held.filename),
        )


@dataclass(frozen=True)
class LoraDetail:
    """A LoRA with its versions, newest first; where the head's file is below ComfyUI's LoRA folder,
    and whether it is there now."""

    lora: Lora
    versions: Sequence[LoraVersion]
    path: PurePosixPath
    synced: bool


@dataclass(frozen=True)
class LoraFile:
    """A version's bytes. ``open(start, length)`` streams a range of them."""

    filename: str
    size: int
    sha256: str
    open: Callable[[int, int], AbstractAsyncContextManager[AsyncIterator[bytes]]]


class LoraQuery(PageQuery):
    """What ``GET /loras`` takes. ``q`` is searched for in names and descriptions."""

    q: Annotated[Text, Field(max_length=200)] | None = None
    tag: Annotated[Text, Field(max_length=100)] | None = None
    base_model: Annotated[Text, Field(max_length=200)] | None = None


class LoraChange(BaseModel):
    """What ``PATCH /loras/{id}`` takes; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    name: Text | None = None
    description: Description | None = None
    tags: Tags | None = None


class VersionQuery(BaseModel):
    """What ``GET /loras/{id}/file`` takes; the head without ``version``."""

    model_config = ConfigDict(extra="forbid")

    version: Annotated[int, Field(ge=1, lt=2**31)] | None = None


class TriggerWordView(BaseModel):
    """A word that the LoRA was trained on, and how often."""

    word: str
    count: int


class LoraVersionView(BaseModel):
    """One file. Hashes in lower-case hex, size in bytes. ``damaged``: the store gives other bytes
    than were uploaded; uploading the file again mends it."""

    version: int
    bytes: int
    sha256: str
    autov2: str
    autov3: str
    state: VersionState
    created_at: datetime

    @classmethod
    def of(cls, version: LoraVersion) -> "LoraVersionView":
        """Show a version."""
        return cls(
            version=version.version,
            bytes=version.bytes,
            sha256=version.sha256,
            autov2=auto_v2(version.sha256),
            autov3=version.autov3,
            state=version.state,
            created_at=version.created_at,
        )


class LoraSummary(BaseModel):
    """A LoRA in a list; the figures are those of its head version."""

    id: UUID
    name: str
    stem: str
    description: str
    tags: list[str]
    version: int
    bytes: int
    sha256: str
    autov2: str
    autov3: str
    state: VersionState
    base_model: str | None
    rank: int | None
    trigger_words: list[TriggerWordView]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, lora: Lora) -> "LoraSummary":
        """Show a LoRA in a list."""
        return cls.model_validate(_summary(lora))


class LoraView(LoraSummary):
    """A LoRA in full. ``path`` is the head's file below ComfyUI's LoRA folder, and ``synced``
    whether it is there now."""

    alpha: float | None
    title: str | None
    author: str | None
    output_name: str | None
    network_module: str | None
    path: str
    synced: bool
    versions: list[LoraVersionView]

    @classmethod
    def of_detail(cls, detail: LoraDetail) -> "LoraView":
        """Show a LoRA in full."""
        lora = detail.lora
        return cls.model_validate(
            asdict(lora.head.metadata)
            | _summary(lora)
            | {
                "path": str(detail.path),
                "synced": detail.synced,
                "versions": [LoraVersionView.of(version) for version in detail.versions],
            }
        )


class LoraList(BaseModel):
    """A page of LoRAs."""

    items: list[LoraSummary]
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[Lora]) -> "LoraList":
        """The page as an answer."""
        items = [LoraSummary.of(lora) for lora in page.items]
        return cls(items=items, next_cursor=page.next_cursor)


class LoraNames(RootModel[list[str]]):
    """Names to choose from, as a prompt may hold them."""


def _summary(lora: Lora) -> dict[str, Any]:
    head = lora.head
    return LoraVersionView.of(head).model_dump(exclude={"created_at"}) | {
        "id": lora.id,
        "name": lora.name,
        "stem": lora.stem,
        "description": lora.description,
        "tags": list(lora.tags),
        "base_model": head.metadata.base_model,
        "rank": head.metadata.rank,
        "trigger_words": [_word(word) for word in head.metadata.trigger_words],
        "created_at": lora.created_at,
        "updated_at": lora.updated_at,
    }


def _word(word: TriggerWord) -> dict[str, Any]:
    return {"word": word.word, "count": word.count}

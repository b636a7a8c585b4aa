"""Values of the LoRA library."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import PurePosixPath
from uuid import UUID

from .names import owner_of
from .trainer_metadata import TrainerMetadata


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


@dataclass(frozen=True)
class HeldFiles:
    """What one unfinished run pins. ``worker_id`` None: it waits, no pair has claimed it yet."""

    run_id: UUID
    worker_id: str | None
    pins: Sequence[LoraPin]


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

    @property
    def is_damaged(self) -> bool:
        """Whether the store has lost its bytes, or gives others."""
        return self.state is VersionState.DAMAGED


class Access(str, Enum):
    """What somebody may do with a LoRA: all; run it; run it and take its file."""

    OWNER = "owner"
    RUN = "run"
    DOWNLOAD = "download"


@dataclass(frozen=True)
class StoredObject:
    """Which version's bytes an object is."""

    key: str
    lora_id: UUID
    version: int


@dataclass(frozen=True)
class Lora:
    """A name in somebody's library, with the version that it stands for.

    ``access`` is that of who asks. ``owner`` is what the owner may be named by, where that is
    somebody else.
    """

    id: UUID
    owner_id: UUID
    name: str
    stem: str
    description: str
    tags: Sequence[str]
    head: LoraVersion
    created_at: datetime
    updated_at: datetime
    access: Access = Access.OWNER
    owner: str | None = None

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
    """A version's bytes. ``open(start, length)`` streams a range of them; ``link`` is a URL that
    gives them to whoever has it, for minutes, where the store has such links."""

    filename: str
    size: int
    sha256: str
    open: Callable[[int, int], AbstractAsyncContextManager[AsyncIterator[bytes]]]
    link: str | None


@dataclass(frozen=True)
class Share:
    """Whom a LoRA is shared with; ``grantee_id`` None: everyone."""

    grantee_id: UUID | None
    can_download: bool


@dataclass(frozen=True)
class Shared:
    """Whom a LoRA is shared with. ``people`` are accounts with what each may be named by."""

    everyone: bool
    can_download: bool
    people: Mapping[UUID, str]


@dataclass(frozen=True)
class WorkflowUse:
    """A stored workflow whose runs used a version: how many did, and when the last was made."""

    id: UUID
    name: str
    runs: int
    last_used_at: datetime


@dataclass(frozen=True)
class VersionUses:
    """What a version is used by: its owner's runs, and the newest of the workflows behind them.

    ``is_needed``: an unfinished run holds on to it, whoever's that is.
    """

    runs: int
    unfinished_runs: int
    last_used_at: datetime | None
    workflows: Sequence[WorkflowUse]
    is_needed: bool

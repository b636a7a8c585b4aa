"""Values of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

from ..loras.models import LoraPin


class Status(str, Enum):
    """Where a run is; see ``docs/runs.md`` for the transitions."""

    QUEUED = "queued"
    PREPARING = "preparing"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED = (Status.QUEUED, Status.PREPARING, Status.RUNNING)
CLAIMED = (Status.PREPARING, Status.RUNNING)
FINAL = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)


class Source(str, Enum):
    """Who asked for it."""

    API = "api"
    EDITOR = "editor"


class OutputType(str, Enum):
    """What an output is to a person."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    TEXT = "text"
    FILE = "file"


@dataclass(frozen=True)
class Output:
    """A kept output. ``bytes`` is its size, ``key`` its blob, ``folder`` ComfyUI's type."""

    index: int
    node_id: str
    filename: str
    type: OutputType
    content_type: str
    bytes: int
    sha256: str
    key: str
    folder: str


@dataclass(frozen=True)
class RunError:
    """Why a run did not succeed. ``code`` is stable."""

    code: str
    message: str
    node_id: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """What the current node is at."""

    value: float
    max: float
    node: str | None = None


@dataclass(frozen=True)
class Run:
    """One run. Its id is ComfyUI's prompt_id; ``prompt`` is exactly what ran."""

    id: UUID
    owner_id: UUID
    source: Source
    status: Status
    prompt: Mapping[str, Any]
    loras: Sequence[LoraPin]
    created_at: datetime
    workflow_id: UUID | None = None
    workflow_version: int | None = None
    input_params: Mapping[str, Any] = field(default_factory=dict)
    extra_data: Mapping[str, Any] = field(default_factory=dict)
    worker_id: str | None = None
    attempts: int = 0
    progress: Progress | None = None
    history: Mapping[str, Any] | None = None
    outputs: Sequence[Output] = ()
    error: RunError | None = None
    idempotency_key: str | None = None
    request_sha256: str | None = None
    gpu_seconds: float | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in FINAL


@dataclass(frozen=True)
class Event:
    """One line of a run's story; ``seq`` counts from 1 within the run."""

    seq: int
    type: str
    data: Mapping[str, Any]
    at: datetime

"""Values of resumable uploads, and what their routes answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel


class UploadState(str, Enum):
    """Receiving bytes; all are there and the LoRA is being made; it is made; it will never be."""

    RECEIVING = "receiving"
    FINISHING = "finishing"
    STORED = "stored"
    FAILED = "failed"


UNFINISHED = (UploadState.RECEIVING, UploadState.FINISHING)


@dataclass(frozen=True)
class Upload:
    """One upload. ``length`` in bytes; ``metadata`` as the client gave it, decoded.

    ``worker_id`` is the pair whose disk has the bytes. ``lora_id`` and ``lora_version`` are what
    became of it, ``error`` why nothing did: ``{code, message}``.
    """

    id: UUID
    owner_id: UUID
    worker_id: str
    length: int
    metadata: Mapping[str, str]
    state: UploadState
    created_at: datetime
    expires_at: datetime
    lora_id: UUID | None = None
    lora_version: int | None = None
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Progress:
    """An upload, and how many of its bytes are there for good."""

    upload: Upload
    offset: int


@dataclass(frozen=True)
class Checksum:
    """What a chunk must hash to: the name of an algorithm, as ``hashlib`` has it, and a digest."""

    algorithm: str
    digest: bytes


class UploadError(BaseModel):
    """Why an upload ended."""

    code: str
    message: str


class UploadView(BaseModel):
    """An upload. ``offset`` of ``length`` bytes have arrived; ``lora_id`` and ``version`` are known
    when ``state`` is ``stored``, ``error`` when it is ``failed``."""

    id: UUID
    state: UploadState
    offset: int
    length: int
    filename: str | None
    lora_id: UUID | None
    version: int | None
    error: UploadError | None
    created_at: datetime
    expires_at: datetime

    @classmethod
    def of(cls, progress: Progress) -> "UploadView":
        """Show an upload."""
        upload = progress.upload
        return cls(
            id=upload.id,
            state=upload.state,
            offset=progress.offset,
            length=upload.length,
            filename=upload.metadata.get("filename") or upload.metadata.get("name"),
            lora_id=upload.lora_id,
            version=upload.lora_version,
            error=None if upload.error is None else UploadError.model_validate(upload.error),
            created_at=upload.created_at,
            expires_at=upload.expires_at,
        )


class UploadList(BaseModel):
    """An account's uploads that have not expired, newest first."""

    items: list[UploadView]

"""Stored LoRAs without a database: blobs, and the pins that name them."""

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath
from uuid import UUID

from sidecar.blobs.folder import FolderBlobs
from sidecar.loras.models import LoraPin

OWNER = UUID(int=7)

Altered = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]


class AlteredBlobs(FolderBlobs):
    """Real blobs whose reads pass through ``alter``, while that is set."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.alter: Altered | None = None
        self.reads = 0
        self.starts: list[int] = []
        """Where each read began."""

    @asynccontextmanager
    async def open(
        self, key: str, start: int = 0, length: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """As the folder's, altered."""
        self.reads += 1
        self.starts.append(start)
        async with super().open(key, start, length) as chunks:
            yield chunks if self.alter is None else self.alter(chunks)


async def stored(blobs: FolderBlobs, stem: str, data: bytes) -> LoraPin:
    """Put bytes into blobs, and pin them."""

    async def whole() -> AsyncIterator[bytes]:
        yield data

    sha256 = hashlib.sha256(data).hexdigest()
    file = f"{stem}.{sha256[:8]}.safetensors"
    key = f"user-{OWNER}/loras/{file}"
    await blobs.put(key, whole())
    path = PurePosixPath(f"user-{OWNER}", file)
    return LoraPin(UUID(int=1), stem, 1, sha256, len(data), key, path)


def listed(folder: Path) -> list[Path]:
    """What ComfyUI lists: every file below the folder whose suffix it knows, links followed."""
    return [path for path in folder.rglob("*.safetensors") if path.is_file()]

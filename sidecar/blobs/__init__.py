"""Where bytes are kept: the BlobStore protocol.

Keys are relative paths with ``/`` such as ``user-<uuid>/loras/style.0a1b2c3d.safetensors``, made
by us and never reused for other bytes. A blob is visible whole or not at all.
"""

import re
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

_FORBIDDEN = re.compile(r"[\\:\x00-\x1f\x7f]")


@dataclass(frozen=True)
class BlobEntry:
    """A blob in a listing: size in bytes, and when it was stored by the store's own clock."""

    key: str
    size: int
    stored_at: datetime


def checked_key(key: str) -> str:
    """``key``, if every store can hold it and none takes it for another place; else ValueError.

    No empty, ``.`` or ``..`` segment, backslash, colon (drives and streams of Windows) or control
    character; and the first segment does not begin with a dot, where a store keeps its own files.
    """
    segments = key.split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        raise ValueError(f"blob key with an empty or dotted segment: {key!r}")
    if _FORBIDDEN.search(key) or key.startswith("."):
        raise ValueError(f"blob key with a forbidden character: {key!r}")
    return key


class BlobStore(Protocol):
    """Atomic, durable storage of immutable byte strings.

    Every method raises UnavailableError("blobs") when the store is away, and StorageFullError
    when it has no room; a key that ``checked_key`` refuses is a ValueError.
    """

    async def clean(self) -> None:
        """Remove what an earlier process left half-written here. Once, at the start of the one
        process that serves: not beside it."""

    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> int:
        """Store a stream, and answer its size in bytes.

        An error or cancellation, of the stream or of the store, leaves nothing under the key.
        """

    async def adopt(self, key: str, file: Path) -> None:
        """Store a finished local file, by linking if possible. It stays where it is, for whoever
        has to begin again after a crash."""

    def open(
        self, key: str, start: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Read a byte range, by default all of it. NotFoundError("blob") on entering.

        It ends after fewer bytes only where the blob does: a connection that breaks is an
        UnavailableError("blobs") in the middle.
        """

    async def size(self, key: str) -> int | None:
        """Size in bytes, or None when there is no such blob."""

    async def delete(self, key: str) -> None:
        """Remove a blob; nothing happens when it is not there."""

    def entries(self, prefix: str) -> AsyncIterator[BlobEntry]:
        """Every blob whose key starts with the prefix, in no particular order."""

    async def link(self, key: str, filename: str, seconds: int) -> str | None:
        """A URL that needs no credentials and downloads the blob as ``filename`` until so many
        seconds from now; None where the store has no such links."""

    async def sweep_parts(self, before: datetime, *, dry_run: bool) -> Sequence[str]:
        """Remove what puts that began before then and never ended have left in the store, and
        name it. With ``dry_run`` nothing is removed."""

    async def check(self) -> None:
        """Answer when blobs can be written and read."""

"""Where a studio moves to."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from databases import opened, sqlite_database

from sidecar.database import Database


@dataclass(frozen=True)
class NewHouse:
    """A migrated database, and a folder for files."""

    url: str
    folder: Path

    @property
    def blobs(self) -> Path:
        """Where the files go."""
        return self.folder / "blobs"

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """The database, opened."""
        if self.url.startswith("sqlite"):
            async with sqlite_database(Path(self.url.removeprefix("sqlite:///"))) as found:
                yield found
        else:
            async with opened(self.url) as made:
                yield made


Copy = Callable[..., Awaitable[tuple[int, str]]]
"""Copies a studio into a house; the exit code and what was printed."""

"""Blobs in a folder: one file each, named like its key.

A blob is written in ``.incoming`` on the same file system and renamed into place when it is whole
and durable.
"""

import os
import shutil
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from ..durable import (
    disk_errors,
    drain,
    in_thread,
    land,
    make_folder,
    new_file,
    opened,
    read_file,
    sync_file,
    sync_folder,
)
from ..errors import NotFoundError
from . import BlobEntry, checked_key

INCOMING = ".incoming"


class FolderBlobs:
    """The BlobStore port on one folder, which belongs to this process alone."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / INCOMING

    async def clean(self) -> None:
        """See BlobStore; the folder is made."""
        with _translated():
            await in_thread(self._clean)

    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> int:
        """See BlobStore."""
        target = self._path(key)
        with _translated():
            async with self._part() as part:
                async with new_file(part) as file:
                    size = await drain(chunks, file.write)
                await in_thread(land, part, target)
        return size

    async def adopt(self, key: str, file: Path) -> None:
        """See BlobStore."""
        target = self._path(key)
        with _translated():
            async with self._part() as part:
                await in_thread(_link_or_copy, file, part)
                await in_thread(land, part, target)

    @asynccontextmanager
    async def open(
        self, key: str, start: int = 0, length: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """See BlobStore."""
        path = self._path(key)
        async with AsyncExitStack() as stack:
            with _translated():
                try:
                    file = await stack.enter_async_context(opened(path))
                except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                    raise NotFoundError("blob") from None
                await in_thread(file.seek, start)
            yield _read(file, length)

    async def size(self, key: str) -> int | None:
        """See BlobStore."""
        path = self._path(key)
        with _translated():
            return await in_thread(_size, path)

    async def delete(self, key: str) -> None:
        """See BlobStore. Folders that it leaves empty go too."""
        path = self._path(key)
        with _translated():
            await in_thread(self._delete, path)

    async def entries(self, prefix: str) -> AsyncIterator[BlobEntry]:
        """See BlobStore."""
        with _translated():
            found = await in_thread(lambda: list(self._walk(prefix)))
        for entry in found:
            yield entry

    async def link(self, key: str, filename: str, seconds: int) -> str | None:  # noqa: ARG002
        """See BlobStore: a folder is served by nobody but us."""
        return None

    async def sweep_parts(self, before: datetime, *, dry_run: bool) -> Sequence[str]:
        """See BlobStore. Those of an earlier process went when this one started."""
        with _translated():
            return await in_thread(self._sweep, before.timestamp(), dry_run)

    async def check(self) -> None:
        """See BlobStore."""
        with _translated():
            async with self._part() as part, new_file(part):
                pass

    @asynccontextmanager
    async def _part(self) -> AsyncIterator[Path]:
        """A free path on the file system of the blobs, so that landing is renaming."""
        await in_thread(make_folder, self._incoming)
        # chosen here and seen by nobody: no test needs to own it
        part = self._incoming / f"{uuid4().hex}.part"
        try:
            yield part
        finally:
            with suppress(OSError):  # the next start removes it
                await in_thread(_unlink, part)

    def _path(self, key: str) -> Path:
        return self._root.joinpath(*checked_key(key).split("/"))

    def _clean(self) -> None:
        make_folder(self._incoming)
        for leftover in self._incoming.iterdir():
            leftover.unlink()

    def _delete(self, path: Path) -> None:
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return
        sync_folder(path.parent)
        for folder in path.parents:
            if folder == self._root:
                return
            try:
                folder.rmdir()
            except OSError:
                return  # not empty

    def _sweep(self, before: float, dry_run: bool) -> list[str]:
        stale = []
        for part in self._incoming.glob("*"):
            with suppress(FileNotFoundError):  # it has just ended
                if part.stat().st_mtime < before:
                    stale.append(f"{INCOMING}/{part.name}")
                    if not dry_run:
                        part.unlink()
        return stale

    def _walk(self, prefix: str) -> Iterator[BlobEntry]:
        above, _, _ = prefix.rpartition("/")
        top = self._path(above) if above else self._root
        for folder, folders, names in os.walk(top):
            if Path(folder) == self._root:
                folders[:] = [name for name in folders if name != INCOMING]
            for name in names:
                file = Path(folder) / name
                key = file.relative_to(self._root).as_posix()
                if key.startswith(prefix):
                    with suppress(FileNotFoundError):  # deleted at this moment
                        found = file.stat()
                        stored_at = datetime.fromtimestamp(found.st_mtime, timezone.utc)
                        yield BlobEntry(key, found.st_size, stored_at)


def _translated() -> AbstractContextManager[None]:
    return disk_errors("blobs", "The folder that keeps files cannot be used.")


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one that has no links
        shutil.copyfile(source, target)
    sync_file(target)


async def _read(file: BinaryIO, length: int | None) -> AsyncIterator[bytes]:
    with _translated():
        async for chunk in read_file(file, length):
            yield chunk

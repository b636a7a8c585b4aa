"""Which files were read and found right, by what can be told of them without reading."""

import hashlib
from pathlib import Path

from ...durable import drain, in_thread, opened, read_file
from .files import Signature, mark_used, signature


class VerifiedFiles:
    """Remembers, in this process, what was read before: by inode, as names may share one."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Signature, str]] = {}

    async def has(self, path: Path, sha256: str, size: int) -> bool:
        """Whether the file has these bytes. It is read where it has changed since it was."""
        before = await in_thread(signature, path)
        if before is None or before[0] != size:
            return False
        known = self._known.get(before[2])
        if known is not None and known[0] == before:
            return known[1] == sha256
        found = await self.read(path)
        return found == sha256

    async def read(self, path: Path) -> str | None:
        """The sha256 of a file, remembered; None when it is none, or changed meanwhile."""
        before = await in_thread(signature, path)
        if before is None:
            return None
        digest = hashlib.sha256()
        try:
            async with opened(path) as file:
                await drain(read_file(file), digest.update)
        except FileNotFoundError:
            return None
        if await in_thread(signature, path) != before:
            return None
        self._known[before[2]] = before, digest.hexdigest()
        return digest.hexdigest()

    async def is_as_it_was(self, path: Path) -> bool:
        """Whether nothing has changed since it was read."""
        now = await in_thread(signature, path)
        known = None if now is None else self._known.get(now[2])
        return known is not None and known[0] == now

    async def was_read(self, path: Path) -> bool:
        """Whether it was read in this process, whatever has become of it."""
        now = await in_thread(signature, path)
        return now is not None and now[2] in self._known

    async def landed(self, path: Path, sha256: str) -> None:
        """Remember a file whose bytes were hashed on their way."""
        found = await in_thread(signature, path)
        if found is not None:
            self._known[found[2]] = found, sha256

    async def use(self, path: Path) -> None:
        """Mark a use of a file that has just been found right."""
        found = await in_thread(signature, path)
        known = None if found is None else self._known.get(found[2])
        await in_thread(mark_used, path)
        if known is not None:
            await self.landed(path, known[1])

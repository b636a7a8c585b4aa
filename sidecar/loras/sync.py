"""Files on ComfyUI's disk: absent, then an unlisted ``.part``, then present.

Present means the right size, the right sha256, and renamed into place; ComfyUI lists by suffix, so
it never lists a part. The modification time of a file is its last use, to ten minutes.
"""

import asyncio
import hashlib
import os
import shutil
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

from ..blobs import BlobStore
from ..durable import (
    disk_errors,
    drain,
    in_thread,
    land,
    make_folder,
    new_file,
    opened,
    read_file,
)
from ..errors import NotFoundError, StorageFullError, UnavailableError, UpstreamError
from .models import LoraPin

PART = ".part"
USED_SECONDS = 600.0
"""A use marks the file only so often: every mark is a change that makes another sidecar on the same
folder read the file again."""
ATTEMPTS = 3

OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with the bytes fetched and the bytes there are."""

_Signature: TypeAlias = tuple[int, int, int]


@dataclass
class _Flight:
    """One fetch, and those who wait for it."""

    task: "asyncio.Task[None]"
    waiting: int = 0
    listeners: list[OnProgress] = field(default_factory=list)


class LoraSync:
    """Puts stored versions below ComfyUI's LoRA folder, each once, whole or not at all.

    Another sidecar may work on the same folder: parts have names of their own, and a part that
    somebody removed is fetched again.
    """

    def __init__(self, blobs: BlobStore, folder: Path) -> None:
        self._blobs = blobs
        self._folder = folder
        self._flights: dict[Path, _Flight] = {}
        self._verified: dict[Path, _Signature] = {}

    async def clean(self) -> None:
        """Remove the parts that a crash left. Call it once, at start."""
        with _translated():
            await in_thread(self._clean)

    async def ensure(self, pin: LoraPin, on_progress: OnProgress | None = None) -> Path:
        """The version's file, fetched or repaired where needed.

        Any number of callers share one fetch; it stops when the last of them is cancelled.
        UpstreamError("blobs") when what is stored is not what was uploaded,
        StorageFullError("disk_full"), UnavailableError("blobs" or "lora_folder").
        """
        target = self._target(pin)
        flight = self._flights.get(target)
        if flight is None:
            flight = _Flight(asyncio.create_task(self._bring(pin, target)))
            self._flights[target] = flight
            flight.task.add_done_callback(lambda _: self._landed(target, flight))
        flight.waiting += 1
        if on_progress is not None:
            flight.listeners.append(on_progress)
        try:
            await asyncio.wait({flight.task})
        finally:
            flight.waiting -= 1
            if on_progress is not None:
                flight.listeners.remove(on_progress)
            if flight.waiting == 0 and not flight.task.done():
                self._landed(target, flight)  # whoever asks from now on starts afresh
                flight.task.cancel()
                await asyncio.wait({flight.task})
        flight.task.result()
        return target

    async def is_present(self, pin: LoraPin) -> bool:
        """Whether a file of the right size is there; its bytes are not read."""
        with _translated():
            found = await in_thread(_signature, self._target(pin))
        return found is not None and found[0] == pin.bytes

    async def remove(self, pin: LoraPin) -> None:
        """Remove the file; nothing happens when it is not there."""
        target = self._target(pin)
        self._verified.pop(target, None)
        with _translated():
            await in_thread(lambda: target.unlink(missing_ok=True))

    def _target(self, pin: LoraPin) -> Path:
        folder, name = pin.path.parts
        return self._folder / folder / name

    def _landed(self, target: Path, flight: _Flight) -> None:
        if self._flights.get(target) is flight:
            del self._flights[target]
        if flight.task.done() and not flight.task.cancelled():
            flight.task.exception()  # seen, also when every caller was cancelled

    async def _bring(self, pin: LoraPin, target: Path) -> None:
        with _translated():
            await in_thread(self._make_room, target, pin.bytes)
            if await self._is_good(target, pin):
                await self._trust(target)
                return
            # from here on ComfyUI must not list what is there
            await in_thread(lambda: target.unlink(missing_ok=True))
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    await self._fetch(pin, target)
                    break
                except FileNotFoundError:  # another sidecar's clean() took the part
                    if attempt == ATTEMPTS:
                        raise
            await self._trust(target)

    async def _is_good(self, target: Path, pin: LoraPin) -> bool:
        before = await in_thread(_signature, target)
        if before is None or before[0] != pin.bytes:
            return False
        if self._verified.get(target) == before:
            return True
        digest = hashlib.sha256()
        async with opened(target) as file:
            await drain(read_file(file), digest.update)
        return digest.hexdigest() == pin.sha256 and await in_thread(_signature, target) == before

    async def _trust(self, target: Path) -> None:
        """Remember a good file by size, time and inode, and mark its use."""
        await in_thread(_mark_used, target)
        signature = await in_thread(_signature, target)
        if signature is not None:
            self._verified[target] = signature

    async def _fetch(self, pin: LoraPin, target: Path) -> None:
        # chosen here and seen by nobody: no test needs to own it
        part = target.with_name(f"{target.name}.{uuid4().hex[:8]}{PART}")
        digest = hashlib.sha256()
        try:
            async with new_file(part) as file, self._blobs.open(pin.object_key) as chunks:
                size = await drain(self._counted(pin, target, chunks), file.write, digest.update)
                if (size, digest.hexdigest()) != (pin.bytes, pin.sha256):
                    raise _wrong_bytes(pin)
            await in_thread(land, part, target)
        except NotFoundError:
            raise UpstreamError(
                "blobs",
                f"The stored file of '{pin.name}' is missing.",
                {"name": pin.name, "version": pin.version},
            ) from None
        finally:
            with suppress(OSError):
                await in_thread(lambda: part.unlink(missing_ok=True))

    async def _counted(
        self, pin: LoraPin, target: Path, chunks: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        done = 0
        async for chunk in chunks:
            done += len(chunk)
            if done > pin.bytes:
                raise _wrong_bytes(pin)
            flight = self._flights.get(target)
            for listener in list(flight.listeners) if flight else ():
                listener(done, pin.bytes)
            yield chunk

    def _make_room(self, target: Path, size: int) -> None:
        """Make the folder; refuse a link out of ours, and what cannot fit."""
        make_folder(target.parent)
        if target.parent.resolve().parent != self._folder.resolve():
            raise UnavailableError(
                "lora_folder", "The account's folder for LoRAs is a link to somewhere else."
            )
        free = shutil.disk_usage(target.parent).free
        if _signature(target) is None and free < size:
            raise StorageFullError(
                "disk_full",
                f"The LoRA has {size} bytes; ComfyUI's disk has {free} left.",
                {"system": "lora_folder", "needed": size, "free": free},
            )

    def _clean(self) -> None:
        for part in self._folder.glob(f"user-*/*{PART}"):
            with suppress(OSError):  # Windows: another sidecar is writing it
                part.unlink()


def _wrong_bytes(pin: LoraPin) -> UpstreamError:
    return UpstreamError(
        "blobs",
        f"The stored file of '{pin.name}' is not what was uploaded.",
        {"name": pin.name, "version": pin.version, "sha256": pin.sha256},
    )


def _translated() -> AbstractContextManager[None]:
    return disk_errors("lora_folder", "ComfyUI's LoRA folder cannot be used.")


def _signature(path: Path) -> _Signature | None:
    """Size, time and inode of a plain file; None for anything else, links included."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def _mark_used(path: Path) -> None:
    if time.time() - path.stat().st_mtime > USED_SECONDS:
        os.utime(path)

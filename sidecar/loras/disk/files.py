"""Files below ComfyUI's LoRA folder: what they are, as far as can be told without reading them."""

import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ...durable import disk_errors
from ..names import SUFFIX

PART = ".part"
UNKNOWN = ".unknown"
"""Put after the name of a file that nobody's library knows: ComfyUI then does not list it."""
USED_SECONDS = 600.0
"""A use marks the file only so often: every mark is a change that makes another sidecar on the same
folder read the file again."""

Signature: TypeAlias = tuple[int, int, int]
"""Size, modification time in nanoseconds, and inode."""


@dataclass(frozen=True)
class Found:
    """A file that is there. ``used_at`` is the time of its last use, in seconds."""

    path: Path
    inode: tuple[int, int]
    size: int
    used_at: float


def signature(path: Path) -> Signature | None:
    """Of a plain file; None for anything else, links included."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def mark_used(path: Path) -> None:
    """Let the file's time say that it was used just now."""
    if time.time() - path.stat().st_mtime > USED_SECONDS:
        os.utime(path)


def found_in(folder: Path) -> Iterator[Found]:
    """Every LoRA file and every part in accounts' folders, links aside: blocking."""
    for path in folder.glob("user-*/*"):
        if path.name.endswith((SUFFIX, PART)):
            with suppress(FileNotFoundError, NotADirectoryError):  # it goes at this moment
                each = path.lstat()
                if stat.S_ISREG(each.st_mode):
                    yield Found(path, (each.st_dev, each.st_ino), each.st_size, each.st_mtime)


def remove_all(paths: Iterable[Path]) -> None:
    """Remove files; one that is not there is no error: blocking."""
    for path in paths:
        path.unlink(missing_ok=True)


def translated() -> AbstractContextManager[None]:
    """StorageFullError or UnavailableError("lora_folder") for what the disk says."""
    return disk_errors("lora_folder", "ComfyUI's LoRA folder cannot be used.")

"""Folders: can they be written, and is there room?"""

import shutil
import tempfile
from pathlib import Path

from .findings import Finding, fail, ok, warn

_LITTLE_BYTES = 5 << 30
_NO_BYTES = 100 << 20
_GIB = 1 << 30


def check_folder(subject: str, folder: Path) -> Finding:
    """Whether the sidecar can write here. Nothing is left behind, nor made."""
    there = folder.is_dir()
    existing = folder if there else _nearest(folder)
    if existing is None:
        return fail(subject, f"{folder} cannot be made: something else stands in its way.")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return fail(subject, f"{existing} cannot be written: {error.strerror or error}.")
    room = f"{free / _GIB:.1f} GiB free"
    state = f"{folder} can be written" if there else f"{folder} will be made"
    if free < _NO_BYTES:
        return fail(subject, f"{state}, but its disk is full: {room}.")
    if free < _LITTLE_BYTES:
        return warn(subject, f"{state}, but its disk is nearly full: {room}.")
    return ok(subject, f"{state}, {room}.")


def _nearest(folder: Path) -> Path | None:
    """The folder in which this one would be made; None when something else is in the way."""
    for parent in (folder, *folder.absolute().parents):
        try:
            if parent.is_dir():
                return parent
            if parent.exists() or parent.is_symlink():
                return None
        except OSError:
            return None
    return None

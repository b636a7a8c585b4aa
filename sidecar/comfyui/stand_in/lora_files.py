"""LoRA files as ComfyUI meets them: really read when a node runs, and refused when corrupt."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

MAX_HEADER_BYTES = 100_000_000


class SafetensorError(Exception):
    """What the safetensors library raises; ComfyUI shows its text."""


def read_lora(file: Path) -> str:
    """Read a file to its end and check it; its sha256."""
    with file.open("rb") as source:
        if file.suffix.lower() in (".safetensors", ".sft"):
            _check(source.read(8), source.read, file.stat().st_size)
            source.seek(0)
        digest = hashlib.sha256()
        while chunk := source.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _check(prefix: bytes, read: Callable[[int], bytes], size: int) -> None:
    """The checks of the safetensors library that a damaged file fails, in its words."""
    if len(prefix) < 8:
        raise _broken("header too small")
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER_BYTES:
        raise _broken("header too large")
    if length + 8 > size:
        raise _broken("invalid header length")
    try:
        header = json.loads(read(length))
        ends = [e["data_offsets"][1] for name, e in header.items() if name != "__metadata__"]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise _broken("invalid JSON in header") from None
    if max(ends, default=0) + length + 8 != size:
        raise _broken("incomplete metadata, file not fully covered")


def _broken(why: str) -> SafetensorError:
    return SafetensorError(f"Error while deserializing header: {why}")

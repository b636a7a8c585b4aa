"""Big LoRA files, the room they need, and the baseline: one pass that copies and hashes."""

import hashlib
import json
import os
import shutil
import struct
import time
from pathlib import Path
from typing import BinaryIO

MIB = 1 << 20
GB = 1_000_000_000
APPEND_BYTES = 4096


def make_lora(path: Path, megabytes: int) -> int:
    """Write a valid safetensors file of random bytes, flushed to the disk; its size in bytes."""
    with path.open("wb") as file:
        file.write(_head(megabytes, 0))
        for _ in range(megabytes):
            file.write(os.urandom(MIB))
        file.flush()
        os.fsync(file.fileno())
    return path.stat().st_size


def renew_lora(path: Path, megabytes: int, number: int) -> None:
    """Make other bytes of it, of the same size: a store would know the old ones again."""
    with path.open("r+b") as file:
        file.write(_head(megabytes, number))
        file.flush()
        os.fsync(file.fileno())


def copy_and_hash(source: Path, target: Path) -> str:
    """Copy through memory and hash on the way, in one thread; on the disk when it returns."""
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(MIB):
            writer.write(chunk)
            digest.update(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return digest.hexdigest()


def rate(size: int, seconds: float) -> float:
    """Megabytes a second."""
    return size / 1_000_000 / seconds


def require_room(folder: Path, needed: int) -> None:
    """Say in one line what the disk has and the benchmark takes; end when it has too little."""
    free = shutil.disk_usage(folder).free
    print(f"disk: {free / GB:.1f} GB free, at most {needed / GB:.1f} GB needed", flush=True)
    if free < needed:
        raise SystemExit("There is too little room on this disk; try fewer --megabytes.")


def durable_append(file: BinaryIO) -> float:
    """Seconds until this disk has kept a small append."""
    began = time.perf_counter()
    file.write(bytes(APPEND_BYTES))
    file.flush()
    os.fsync(file.fileno())
    return time.perf_counter() - began


def _head(megabytes: int, number: int) -> bytes:
    size = megabytes * MIB
    header = {
        "__metadata__": {"number": f"{number:06d}"},
        "lora_unet_a.lora_down.weight": {
            "dtype": "F16",
            "shape": [64, size // 128],
            "data_offsets": [0, size],
        },
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text

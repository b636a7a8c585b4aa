"""How fast a LoRA comes from the store to ComfyUI's folder, against copying and hashing it.

    python benchmarks/lora_sync.py --megabytes 954 --rounds 5

In turn, the same bytes are synced by ``LoraSync.ensure`` and copied and hashed, on one disk.
"""

import argparse
import asyncio
import hashlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from uuid import UUID

from big_files import MIB, copy_and_hash, make_lora, rate, require_room
from figures import Sample, machine, pairwise, row, title
from processes import ROOT

sys.path.insert(0, str(ROOT))  # the clone is not installed

from sidecar.blobs.folder import FolderBlobs
from sidecar.durable import alongside, opened, read_file
from sidecar.loras.disk import LoraSync
from sidecar.loras.models import LoraPin

OWNER = UUID(int=1)
AIM = 0.7


async def store(blobs: FolderBlobs, source: Path) -> LoraPin:
    """Put a file into the store, and pin it."""

    async def chunks() -> AsyncIterator[bytes]:
        async with opened(source) as file:
            async for chunk in read_file(file):
                yield chunk

    key = f"user-{OWNER}/loras/big.safetensors"
    digest = hashlib.sha256()
    size = await blobs.put(key, alongside(chunks(), digest.update))
    sha256 = digest.hexdigest()
    path = PurePosixPath(f"user-{OWNER}", f"big.{sha256[:8]}.safetensors")
    return LoraPin(UUID(int=2), "big", 1, sha256, size, key, path)


async def measure(folder: Path, megabytes: int, rounds: int) -> None:
    """Measure in turn, and print what it took."""
    source, copy = folder / "big.safetensors", folder / "copy"
    size = make_lora(source, megabytes)
    blobs = FolderBlobs(folder / "blobs")
    await blobs.clean()
    pin = await store(blobs, source)
    sync = LoraSync(blobs, folder / "loras")
    synced, copied = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        copy_and_hash(source, copy)
        copied.append(rate(size, time.perf_counter() - began))
        copy.unlink()
        began = time.perf_counter()
        await sync.ensure(pin)
        synced.append(rate(size, time.perf_counter() - began))
        await sync.remove(pin)
    ratio = pairwise(Sample(synced), Sample(copied))
    title(f"sync of {size / MIB:.0f} MiB, {rounds} pairs, medians (quartiles)")
    row("copy + sha256 + fsync, one thread (baseline)", Sample(copied).text("MB/s", 0))
    row("LoraSync.ensure", Sample(synced).text("MB/s", 0))
    row("ratio to the baseline", ratio.text("x", 2), f"aim: at least {AIM}")


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=954, help="MiB; 954 are a gigabyte")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(prefix="atelier-benchmark-") as name:
        require_room(Path(name), 4 * asked.megabytes * MIB)
        asyncio.run(measure(Path(name), asked.megabytes, asked.rounds))


if __name__ == "__main__":
    main()

"""Interrupt syncs in every way, and look whether ComfyUI would ever list a corrupt file.

    python benchmarks/interrupted_syncs.py --times 1000

Each time one of four things happens at a random moment: the store's connection is cut, the disk is
full (POSIX), the store serves wrong bytes, or the process is killed. After each, every file that
ComfyUI lists (``*.safetensors`` below its LoRA folder) must be exactly what was uploaded, and a
sync without trouble must then succeed. Exits 1 when a listed file is ever corrupt.
"""

import argparse
import asyncio
import hashlib
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fakes")]

from full_disk import files_up_to  # noqa: E402 - the clone is not installed
from lora_pins import AlteredBlobs, listed, stored  # noqa: E402
from safetensors_files import lora_bytes  # noqa: E402

from sidecar.errors import AtelierError, UnavailableError  # noqa: E402
from sidecar.loras.disk import LoraSync  # noqa: E402
from sidecar.loras.models import LoraPin  # noqa: E402

FILES = 3
FILE_BYTES = 2 << 20
LONGEST_LIFE_SECONDS = 0.05


async def upload(blobs: AlteredBlobs) -> list[LoraPin]:
    """The LoRAs that are synced; the same each time."""
    return [
        await stored(blobs, f"lora{n}", lora_bytes(n, size=FILE_BYTES + n)) for n in range(FILES)
    ]


def corrupt(folder: Path, pins: list[LoraPin]) -> list[Path]:
    """The listed files that are not what was uploaded."""
    expected = {folder / pin.path: pin.sha256 for pin in pins}
    return [
        path
        for path in listed(folder)
        if hashlib.sha256(path.read_bytes()).hexdigest() != expected.get(path)
    ]


async def cut(chunks: AsyncIterator[bytes], after: int) -> AsyncIterator[bytes]:
    """A stream whose connection breaks after so many bytes."""
    async for chunk in chunks:
        yield chunk[:after]
        after -= len(chunk)
        if after <= 0:
            raise UnavailableError("blobs", "The connection was cut.")


async def wrong(chunks: AsyncIterator[bytes], at: int, how: str) -> AsyncIterator[bytes]:
    """A stream that is whole but wrong: a bit flipped, too short, or too long."""
    data = b"".join([chunk async for chunk in chunks])
    flipped = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    yield {"flipped": flipped, "short": data[:at], "long": data + data[:at]}[how]


async def interrupted(kind: str, blobs: AlteredBlobs, folder: Path, pin: LoraPin) -> bool:
    """One sync with such trouble; whether it ended in an error, as it should."""
    at = random.randrange(FILE_BYTES)
    how = random.choice(["flipped", "short", "long"])
    if kind == "cut":
        blobs.alter = lambda chunks: cut(chunks, at)
    elif kind == "wrong":
        blobs.alter = lambda chunks: wrong(chunks, at, how)
    try:
        with files_up_to(at) if kind == "full" else nullcontext():
            await LoraSync(blobs, folder).ensure(pin)
    except AtelierError:
        return True
    finally:
        blobs.alter = None
    return False


def killed(base: Path) -> bool:
    """A process that syncs without end, killed at some moment."""
    child = subprocess.Popen(
        [sys.executable, __file__, "--child", str(base)], stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            child.wait(random.uniform(0, LONGEST_LIFE_SECONDS))
        except subprocess.TimeoutExpired:
            child.kill()
            return True
    return False


async def sync_without_end(base: Path) -> None:
    """What the killed process does: fetch, damage or remove, and fetch again."""
    sync = LoraSync(blobs := AlteredBlobs(base / "blobs"), base / "loras")
    pins = await upload(blobs)
    await sync.clean()
    print("syncing", flush=True)
    while True:
        pin = random.choice(pins)
        await sync.ensure(pin)
        await sync.remove(pin)


async def run(times: int, base: Path) -> int:
    """Interrupt so often; the exit status."""
    blobs = AlteredBlobs(base / "blobs")
    folder = base / "loras"
    pins = await upload(blobs)
    kinds = ["cut", "wrong", "kill"] + ([] if sys.platform == "win32" else ["full"])
    happened: Counter[str] = Counter()
    cut_short = 0
    for turn in range(times):
        kind, pin = kinds[turn % len(kinds)], pins[turn % FILES]
        if kind == "kill":
            ended = await asyncio.to_thread(killed, base)
        else:
            ended = await interrupted(kind, blobs, folder, pin)
        if not ended and kind != "cut":  # a fetch goes on where it was cut
            print(f"{kind}: the trouble was not noticed")
            return 1
        if bad := corrupt(folder, pins):
            print(f"{kind}: ComfyUI lists a corrupt file: {bad[0].name}")
            return 1
        happened[kind] += 1
        cut_short += kind == "kill" and any(folder.rglob("*.part"))
        sync = LoraSync(blobs, folder)
        await sync.clean()
        await sync.ensure(pin)
        for each in pins:
            await sync.remove(each)
        assert not list(folder.rglob("*.part"))
    kinds_seen = ", ".join(f"{count} {kind}" for kind, count in sorted(happened.items()))
    print(f"{times} interrupted syncs ({kinds_seen}): no corrupt file was ever listed")
    print(f"{cut_short} of the kills came in the middle of a fetch")
    return 0


def main() -> int:
    """Read the command line, and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child is not None:
        asyncio.run(sync_without_end(asked.child))
    with tempfile.TemporaryDirectory() as base:
        return asyncio.run(run(asked.times, Path(base)))


if __name__ == "__main__":
    sys.exit(main())

"""How fast a LoRA goes to S3 and comes from there, against minio-py alone on the same server.

    python benchmarks/lora_on_s3.py --megabytes 954 --rounds 3

In turn, minio-py puts the file as it is and the sidecar takes it as an upload, checked and hashed;
then minio-py gets it, and LoraSync puts it on ComfyUI's disk, verified and durable. The server is
SeaweedFS.
"""

import argparse
import asyncio
import hashlib
import sys
import tempfile
import time
from pathlib import Path, PurePosixPath
from uuid import UUID

from big_files import MIB, make_lora, rate, renew_lora, require_room
from figures import Sample, machine, pairwise, row, title
from processes import ROOT, resident, studio
from upload import delete, upload

sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fakes")]  # the clone is not installed

from s3_server import S3Server, s3_server  # noqa: E402

from sidecar.blobs.s3 import S3Blobs  # noqa: E402
from sidecar.blobs.s3_client import made_client  # noqa: E402
from sidecar.loras.disk import LoraSync  # noqa: E402
from sidecar.loras.models import LoraPin  # noqa: E402

UP_AIM, DOWN_AIM = 0.9, 0.8
MEMORY_AIM = 100e6
WARM = 500


def measure_up(server: S3Server, source: Path, megabytes: int, rounds: int) -> None:
    """Uploads through the sidecar, and plain ones."""
    bucket = server.new_bucket()
    address = server.address(bucket)
    plain = made_client(address, address.endpoint, connections=8)
    plain.make_bucket(bucket)
    ours: list[float] = []
    theirs: list[float] = []
    with studio(**server.settings(bucket)) as stand:
        before = resident(stand.sidecar)
        for number in range(rounds):
            renew_lora(source, megabytes, number)
            size = source.stat().st_size
            began = time.perf_counter()
            plain.fput_object(bucket, "plain", str(source), part_size=8 << 20)
            theirs.append(rate(size, time.perf_counter() - began))
            began = time.perf_counter()
            lora = upload(stand.sidecar.port, source)
            ours.append(rate(size, time.perf_counter() - began))
            delete(stand.sidecar.port, lora["id"])
            plain.remove_object(bucket, "plain")
        after = resident(stand.sidecar)
    title(f"{megabytes} MiB to S3, {rounds} pairs, medians (quartiles)")
    row("minio-py alone (baseline)", Sample(theirs).text("MB/s", 0))
    row("POST /loras", Sample(ours).text("MB/s", 0))
    ratio = pairwise(Sample(ours), Sample(theirs))
    row("ratio to the baseline", ratio.text("x", 2), f"aim: at least {UP_AIM}")
    if before is not None and after is not None:
        growth = f"{(after[1] - before[0]) / 1e6:9.1f} MB"
        row("peak memory above idle", growth, f"aim: under {MEMORY_AIM / 1e6:.0f} MB")


async def measure_down(server: S3Server, folder: Path, source: Path, rounds: int) -> None:
    """Syncs, and plain downloads."""
    bucket = server.new_bucket()
    address = server.address(bucket)
    plain = made_client(address, address.endpoint, connections=8)
    blobs = S3Blobs(address, max_bytes=1 << 40)
    pin = await stored(blobs, source)
    sync = LoraSync(blobs, folder / "loras")
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        await asyncio.to_thread(plain.fget_object, bucket, pin.object_key, str(folder / "plain"))
        theirs.append(rate(pin.bytes, time.perf_counter() - began))
        await asyncio.to_thread((folder / "plain").unlink)
        began = time.perf_counter()
        await sync.ensure(pin)
        ours.append(rate(pin.bytes, time.perf_counter() - began))
        await sync.remove(pin)
    await sync.ensure(pin)
    began = time.perf_counter()
    for _ in range(WARM):
        await sync.is_present(pin)
    warm = (time.perf_counter() - began) / WARM * 1000
    began = time.perf_counter()
    for _ in range(WARM):
        await sync.ensure(pin)
    again = (time.perf_counter() - began) / WARM * 1000
    await blobs.close()
    title(f"{pin.bytes / MIB:.0f} MiB from S3, {rounds} pairs, medians (quartiles)")
    row("minio-py alone (baseline)", Sample(theirs).text("MB/s", 0))
    row("LoraSync.ensure, verified and durable", Sample(ours).text("MB/s", 0))
    ratio = pairwise(Sample(ours), Sample(theirs))
    row("ratio to the baseline", ratio.text("x", 2), f"aim: at least {DOWN_AIM}")
    row("is a LoRA there?", f"{warm:9.3f} ms", "aim: under 1 ms")
    row("ensure one that is there", f"{again:9.3f} ms")


async def stored(blobs: S3Blobs, source: Path) -> LoraPin:
    """Put a file into the store, and pin it."""
    sha256 = hashlib.sha256()
    with source.open("rb") as file:
        while chunk := file.read(1 << 20):
            sha256.update(chunk)
    key = f"user-{UUID(int=1)}/loras/big.safetensors"
    await blobs.adopt(key, source)
    name = f"big.{sha256.hexdigest()[:8]}.safetensors"
    path = PurePosixPath(f"user-{UUID(int=1)}", name)
    size = source.stat().st_size  # noqa: ASYNC240 - nothing else runs
    return LoraPin(UUID(int=2), "big", 1, sha256.hexdigest(), size, key, path)


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=954, help="MiB; 954 are a gigabyte")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(prefix="atelier-benchmark-") as name, s3_server() as server:
        folder = Path(name)
        require_room(folder, 6 * asked.megabytes * MIB)
        source = folder / "big.safetensors"
        make_lora(source, asked.megabytes)
        measure_up(server, source, asked.megabytes, asked.rounds)
        asyncio.run(measure_down(server, folder, source, asked.rounds))


if __name__ == "__main__":
    main()

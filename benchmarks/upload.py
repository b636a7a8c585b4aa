"""How fast a LoRA is uploaded, against copying and hashing the same file, and in what memory.

    python benchmarks/upload.py --megabytes 954 --rounds 3

In turn, the file is copied and hashed, uploaded to the sidecar, and uploaded through the
pack, as it comes in over ComfyUI's port. The client sends straight from the file.
"""

import argparse
import http.client
import json
import tempfile
import time
from pathlib import Path

from big_files import MIB, copy_and_hash, make_lora, rate, renew_lora, require_room
from figures import Sample, machine, pairwise, row, title
from processes import API, Child, resident, server, studio

BOUNDARY = "a-boundary-that-no-tensor-holds"
AIM_BYTES = 100 * 1_000_000
ANSWER_SECONDS = 600


def upload(port: int, path: Path) -> dict[str, object]:
    """Send the file as a form; the stored LoRA."""
    disposition = 'form-data; name="file"; filename="big.safetensors"'
    head = f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode()
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    try:
        connection.putrequest("POST", f"{API}/loras")
        connection.putheader("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
        connection.putheader("Content-Length", str(len(head) + path.stat().st_size + len(tail)))
        connection.endheaders(head)
        with path.open("rb") as file:
            connection.sock.sendfile(file)
        connection.send(tail)
        return _answer(connection, 201)
    finally:
        connection.close()


def delete(port: int, lora_id: object) -> None:
    """Delete the LoRA and its bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    try:
        connection.request("DELETE", f"{API}/loras/{lora_id}")
        _answer(connection, 204)
    finally:
        connection.close()


def _answer(connection: http.client.HTTPConnection, expected: int) -> dict[str, object]:
    response = connection.getresponse()
    body = response.read()
    if response.status != expected:
        raise SystemExit(f"Answered {response.status}: {body[:500]!r}")
    return dict(json.loads(body)) if body else {}


class Rounds:
    """Seconds taken in each round, by way."""

    def __init__(self, source: Path, megabytes: int, sidecar: Child) -> None:
        self._source = source
        self._megabytes = megabytes
        self._sidecar = sidecar
        self._number = 0
        self.size = source.stat().st_size
        self.copied: list[float] = []

    def copy(self) -> None:
        """The baseline."""
        copy = self._source.with_suffix(".copy")
        began = time.perf_counter()
        copy_and_hash(self._source, copy)
        self.copied.append(time.perf_counter() - began)
        copy.unlink()

    def send(self, port: int) -> float:
        """Upload bytes that are not stored yet, then delete them; seconds of the upload."""
        self._number += 1
        renew_lora(self._source, self._megabytes, self._number)
        began = time.perf_counter()
        lora = upload(port, self._source)
        taken = time.perf_counter() - began
        delete(self._sidecar.port, lora["id"])
        return taken


def measure(folder: Path, megabytes: int, rounds: int) -> None:
    """Measure in turn, and print what it took."""
    source = folder / "big.safetensors"
    make_lora(source, megabytes)
    with studio() as stand:
        address = ("--sidecar", stand.sidecar.url)
        with server("pack", *address, folder=stand.folder) as pack:
            taken = Rounds(source, megabytes, stand.sidecar)
            ways = {"to the sidecar": stand.sidecar, "through the pack on ComfyUI's port": pack}
            seconds: dict[str, list[float]] = {way: [] for way in ways}
            before = {way: resident(child) for way, child in ways.items()}
            for _ in range(rounds):
                for way, child in ways.items():
                    taken.copy()
                    seconds[way].append(taken.send(child.port))
            report(taken, seconds)
            title("peak memory above idle")
            for way, child in ways.items():
                name = "the sidecar" if child is stand.sidecar else "the process with the pack"
                row(
                    name,
                    _growth(before[way], resident(child)),
                    f"aim: under {AIM_BYTES / 1e6:.0f} MB",
                )


def report(taken: Rounds, seconds: dict[str, list[float]]) -> None:
    """Print throughputs and their ratio to the baseline measured right before."""
    size = taken.size
    title(f"upload of {size / MIB:.0f} MiB, {len(taken.copied)} copies, medians (quartiles)")
    copied = Sample([rate(size, each) for each in taken.copied])
    row("copy + sha256 + fsync, one thread (baseline)", copied.text("MB/s", 0))
    for index, (way, each) in enumerate(seconds.items()):
        rates = Sample([rate(size, one) for one in each])
        ratio = pairwise(rates, Sample(copied.values[index :: len(seconds)]))
        row(f"upload {way}", rates.text("MB/s", 0), f"{len(each)} rounds")
        row("  ratio to the baseline", ratio.text("x", 2))


def _growth(before: tuple[int, int] | None, after: tuple[int, int] | None) -> str:
    if before is None or after is None:
        return "not measured: this system has no /proc"
    return f"{(after[1] - before[0]) / 1e6:9.1f} MB, from {before[0] / 1e6:.1f} MB"


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=954, help="MiB; 954 are a gigabyte")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(prefix="atelier-benchmark-") as name:
        require_room(Path(name), 3 * asked.megabytes * MIB)
        measure(Path(name), asked.megabytes, asked.rounds)


if __name__ == "__main__":
    main()

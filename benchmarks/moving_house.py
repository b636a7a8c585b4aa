"""Moves a large studio from SQLite to Postgres, finds every byte again, and says how fast.

    python benchmarks/moving_house.py [--kills 10]

1,000 workflows of two or three versions, 10,000 runs with events and outputs, and 50 LoRAs are
copied by the command, in a process of its own; with --kills it is killed so often first, at random
moments. Then all that the rooms show of both studios is compared. The baseline copies the same rows
with plain SQL as the owner of the tables, and the same files with a copy and an fsync each, and
compares nothing. Exits with 1 when anything is not found again, or the old studio has changed.
"""

import argparse
import asyncio
import hashlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
from figures import machine, row, title

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fakes")]  # the clone is not installed

from databases import PostgresStudios, opened, sqlite_database  # noqa: E402
from lived_in_studio import LivedIn, furnished, shown  # noqa: E402
from postgres_server import PostgresServer  # noqa: E402

from sidecar.database import Database  # noqa: E402
from sidecar.moving.parts import PARTS  # noqa: E402

COMMAND = """
import argparse, asyncio, os, sys
from pathlib import Path
from sidecar.commands.copy import add_to, run
from sidecar.settings import read_settings
parser = argparse.ArgumentParser()
add_to(parser.add_subparsers())
code = asyncio.run(run(parser.parse_args(), read_settings(os.environ), sys.stdout))
status = Path("/proc/self/status").read_text()  # getrusage would tell of who started this
print("peak", status.partition("VmHWM:")[2].split()[0])
sys.exit(code)
"""
BATCH = 400


def command(old: LivedIn, url: str, blobs: Path) -> subprocess.Popen[str]:
    """The copy, started."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "copy", "--to", url, "--to-blobs", str(blobs)],
        cwd=ROOT,
        env={**os.environ, "ATELIER_DATA_DIR": str(old.folder), "DATABASE_URL": ""},
        stdout=subprocess.PIPE,
        text=True,
    )


def copied(old: LivedIn, url: str, blobs: Path) -> tuple[float, int, str]:
    """Copy to the end: seconds, peak memory in bytes, and what was printed."""
    began = time.perf_counter()
    process = command(old, url, blobs)
    printed, _ = process.communicate()
    seconds = time.perf_counter() - began
    if process.returncode != 0:
        raise SystemExit(f"The copy ended with {process.returncode}:\n{printed}")
    printed, _, peak = printed.rpartition("peak ")
    return seconds, int(peak) * 1024, printed


def killed(old: LivedIn, url: str, blobs: Path, times: int, seconds: float) -> None:
    """Kill the copy so often, each time within what is left of the time that it needs."""
    chance = random.Random(times)
    for _ in range(times):
        process = command(old, url, blobs)
        try:
            process.wait(chance.uniform(0.5, seconds))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()


def plain_rows(old: LivedIn, url: str) -> tuple[float, int]:
    """Copy the rows with nothing around it: seconds, and how many there were."""
    began, count = time.perf_counter(), 0
    source = sqlite3.connect(f"{old.file.as_uri()}?immutable=1", uri=True)
    with psycopg.connect(url, options="-c search_path=atelier") as target:
        for part in PARTS:
            names = [column.name for column in part.table.columns]
            flags = [i for i, n in enumerate(names) if n == "is_template"]
            into = f"insert into {part.name} ({','.join(names)})"
            insert = f"{into} values ({','.join(['%s'] * len(names))})"
            rows = source.execute(f"select {','.join(names)} from {part.name}")  # noqa: S608
            while batch := rows.fetchmany(BATCH):
                values = [
                    [bool(v) if i in flags else v for i, v in enumerate(each)] for each in batch
                ]
                target.cursor().executemany(insert, values)
                target.commit()
                count += len(batch)
    source.close()
    return time.perf_counter() - began, count


def plain_files(old: LivedIn, folder: Path) -> float:
    """Copy the files, each durable: seconds."""
    began = time.perf_counter()
    for file in old.blobs.rglob("*"):
        if file.is_file():
            target = folder / file.relative_to(old.blobs)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            with target.open("r+b") as handle:
                os.fsync(handle.fileno())
    return time.perf_counter() - began


async def digests(database: Database, folder: Path) -> list[str]:
    """What is shown, a hash for each line."""
    return [hashlib.sha256(line.encode()).hexdigest() async for line in shown(database, folder)]


async def found_again(old: LivedIn, url: str, new: Path) -> int:
    """How many lines are shown by both; SystemExit when another than the runs under way differs."""
    async with sqlite_database(old.file) as database:
        before = await digests(database, old.folder)
    async with opened(url) as database:
        after = await digests(database, new)
    differing = set(before) ^ set(after)
    if len(before) != len(after) or len(differing) != 4:  # two runs were under way
        raise SystemExit(f"{len(before)} and {len(after)} lines, {len(differing)} differ")
    return len(before)


def measure(asked: argparse.Namespace, folder: Path, studios: PostgresStudios) -> None:
    """Make the studio, move it, compare."""
    sizes = {name: getattr(asked, name) for name in ("workflows", "runs", "loras", "padding")}
    old = asyncio.run(furnished(folder / "old", **sizes))
    before = old.fingerprints()
    files = sum(1 for name in before if name.startswith("blobs"))
    size = old.file.stat().st_size
    title(f"{sizes}: {size / 1e6:.0f} MB of rows, {files} files")
    plain, rows = plain_rows(old, studios.admin_url(studios.new()))
    plain += plain_files(old, folder / "plain")
    things = rows + files
    row("plain SQL and cp + fsync (baseline)", f"{things / plain:9.0f} rows and files/s")
    url, new = studios.url(studios.new()), folder / "new"
    seconds, peak, printed = copied(old, url, new / "blobs")
    row(
        "copy",
        f"{things / seconds:9.0f} rows and files/s",
        f"{seconds:.1f} s, peak {peak >> 20} MiB",
    )
    row("  ratio to the baseline", f"{plain / seconds:9.3f} x")
    if asked.kills:
        url, new = studios.url(studios.new()), folder / "killed"
        killed(old, url, new / "blobs", asked.kills, seconds)
        again, _, printed = copied(old, url, new / "blobs")
        row(f"copy after {asked.kills} kills, the last try", f"{again:9.1f} s")
    print(printed)
    if old.fingerprints() != before:
        raise SystemExit("The old studio has changed.")
    lines = asyncio.run(found_again(old, url, new))
    print(f"{lines} versions, LoRA versions and runs were found again, every byte of them.")


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workflows", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--loras", type=int, default=50)
    parser.add_argument("--padding", type=int, default=0, help="characters more in each prompt")
    parser.add_argument("--kills", type=int, default=10)
    asked = parser.parse_args()
    print(machine())
    server = PostgresServer(synchronous_commit="on", fsync="on", full_page_writes="on")
    try:
        server.start()
        with tempfile.TemporaryDirectory(prefix="atelier-benchmark-") as name:
            measure(asked, Path(name), PostgresStudios(server))
    finally:
        server.stop()


if __name__ == "__main__":
    main()

"""``sweep``: remove what crashes and strangers left, and say what that was."""

import argparse
from typing import TYPE_CHECKING, TextIO

from ..app import sweeper_for
from ..clock import SystemClock
from ..outside import opened_blobs, opened_database
from ..principal import SYSTEM
from ..settings import Settings

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_KINDS = (
    "objects without a row",
    "versions without an object",
    "expired uploads",
    "parts of the store",
    "parts on ComfyUI's disk",
)


def add_to(commands: "Commands") -> None:
    """Add the command to the parser's."""
    parser = commands.add_parser(
        "sweep", help="remove objects without rows, expired uploads and stale parts"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be removed, and remove nothing"
    )


async def run(asked: argparse.Namespace, settings: Settings, out: TextIO) -> int:
    """Sweep, also beside the sidecar that serves; 0 when all of it was looked at."""
    async with (
        opened_database(settings) as database,
        opened_blobs(settings) as blobs,
        database.alone(SYSTEM, "sweep"),
    ):
        sweeper = sweeper_for(settings, database, blobs, SystemClock())
        swept = await sweeper.sweep(dry_run=asked.dry_run)
    for kind in _KINDS:
        names = swept.found.get(kind, [])
        out.write(f"{kind}: {len(names)}\n")
        for name in names:
            out.write(f"  {name}\n")
    done = "would be freed" if asked.dry_run else "freed"
    out.write(f"{swept.bytes} bytes of objects {done}\n")
    return 0

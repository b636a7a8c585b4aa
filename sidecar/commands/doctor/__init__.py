"""``doctor``: print each setting with its source, and look at what it points at."""

import argparse
import json
import platform
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, TextIO

from ...settings import Settings
from .buckets import check_bucket
from .comfyuis import check_comfyui
from .databases import check_database
from .findings import Finding, Level, ok
from .folders import check_folder
from .shown_settings import Shown, shown
from .signing_in import check_sign_in

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_to(commands: "Commands") -> None:
    """Add the command to the parser's."""
    parser = commands.add_parser(
        "doctor", help="show each setting, and check what it points at; 1 when something fails"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


async def run(asked: argparse.Namespace, settings: Settings, out: TextIO) -> int:
    """Look, and print; 1 when anything fails. Nothing is changed, no secret is printed."""
    findings = await _look(settings)
    write = _write_json if asked.json else _write_text
    write(shown(settings), findings, out)
    return 1 if any(each.level is Level.FAIL for each in findings) else 0


async def _look(settings: Settings) -> Sequence[Finding]:
    of_database, admins = await check_database(settings)
    return [
        ok("Python", f"{platform.python_version()} on {platform.system()}."),
        ok("SQLite", f"{sqlite3.sqlite_version}."),
        check_folder("data folder", settings.data_dir),
        check_folder("blobs", settings.data_dir / "blobs"),
        *await check_bucket(settings),
        *of_database,
        *await check_comfyui(settings),
        *await check_sign_in(settings, admins),
    ]


def _write_json(settings: Sequence[Shown], findings: Sequence[Finding], out: TextIO) -> None:
    document = {
        "settings": [asdict(each) for each in settings],
        "checks": [asdict(each) for each in findings],
    }
    json.dump(document, out, indent=2)
    out.write("\n")


def _write_text(settings: Sequence[Shown], findings: Sequence[Finding], out: TextIO) -> None:
    width = max(len(each.name) for each in settings)
    for each in settings:
        out.write(f"{each.name:{width}}  {each.value} ({each.source})\n")
    out.write("\n")
    for finding in findings:
        out.write(f"{finding.level.value:4}  {finding.subject}: {finding.message}\n")

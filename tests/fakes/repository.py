"""The repository itself, as a thing to test: its files, and sections of its documents."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_NOT_OURS = {
    ".git",
    ".hypothesis",
    ".venv",
    "venv",
    ".nox",
    "__pycache__",
    "atelier-data",
    "dist",
    "htmlcov",
}


def files() -> Iterator[Path]:
    """Every file that belongs to it; not what tools leave behind."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [
            name
            for name in folders
            if name not in _NOT_OURS and not name.endswith(("_cache", ".egg-info"))
        ]
        for name in names:
            if not name.endswith((".pyc", ".coverage")):
                yield Path(folder) / name


def python_files() -> Iterator[Path]:
    """Its Python."""
    return (file for file in files() if file.suffix == ".py")


def text(name: str) -> str:
    """A document, by its path from the root."""
    return (ROOT / name).read_text(encoding="utf-8")


def section(name: str, mark: str) -> str:
    """What stands between ``<!-- mark: begin -->`` and ``<!-- mark: end -->``."""
    return text(name).split(f"<!-- {mark}: begin -->")[1].split(f"<!-- {mark}: end -->")[0]


def table(markdown: str) -> list[list[str]]:
    """The rows of a table, without its head; cells without their backticks at both ends."""
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows[2:]]


def shell_blocks(name: str) -> list[str]:
    """The ``sh`` blocks of a document."""
    return re.findall(r"^```sh\n(.*?)^```", text(name), re.DOTALL | re.MULTILINE)

"""The import rules that the contracts in pyproject.toml cannot see."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
ISLANDS = ("nodes", "server_routes", "sidecar")
INSIDE_COMFYUI = ("nodes", "server_routes")


def imports_of(file: Path) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import statement."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node


def climbs(file: Path, island: Path) -> list[int]:
    """The lines whose relative import leaves the island."""
    depth = len(file.relative_to(island).parts)
    return [
        node.lineno
        for node in imports_of(file)
        if isinstance(node, ast.ImportFrom) and node.level > depth
    ]


@pytest.mark.parametrize("island", ISLANDS)
def test_no_relative_import_leaves_its_island(island: str) -> None:
    files = list((ROOT / island).rglob("*.py"))

    assert files
    assert {str(file): lines for file in files if (lines := climbs(file, ROOT / island))} == {}


def test_an_import_that_leaves_its_island_is_noticed(tmp_path: Path) -> None:
    room = tmp_path / "nodes" / "room"
    room.mkdir(parents=True)
    file = room / "a.py"
    file.write_text("from .. import extension\nfrom ... import sidecar\n", encoding="utf-8")

    assert climbs(file, tmp_path / "nodes") == [2]


@pytest.mark.parametrize("island", INSIDE_COMFYUI)
def test_inside_comfyui_own_modules_are_imported_relatively(island: str) -> None:
    named = {
        name
        for file in (ROOT / island).rglob("*.py")
        for node in imports_of(file)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if node.level == 0
            else []
        )
    }

    assert {name for name in named if name.split(".")[0] in ISLANDS} == set()


def test_a_store_is_opened_by_the_services_of_its_own_room_alone() -> None:
    graph = grimp.build_graph("sidecar")
    rooms = [name.split(".")[1] for name in graph.modules if name.endswith(".store")]

    assert rooms
    strangers = {
        importer
        for room in rooms
        for importer in graph.find_modules_that_directly_import(f"sidecar.{room}.store")
        if not importer.startswith(f"sidecar.{room}.")
    }
    assert strangers == set()


def test_the_islands_of_comfyui_load_without_torch() -> None:
    code = "import sys, nodes, server_routes; sys.exit('torch' in sys.modules)"
    path = [str(ROOT), str(ROOT / "tests" / "fakes")]

    subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}; {code}"], check=True
    )

"""ARCHITECTURE.md says what the code says."""

import re

from repository import ROOT, section, table, text

from sidecar.database.tables import metadata
from sidecar.settings import Settings


def shown(default: object) -> str:
    """A default as the document writes it."""
    if default is None:
        return "none"
    if isinstance(default, tuple):
        return ",".join(default)
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_every_setting_is_documented_with_its_default_and_meaning():
    documented = {row[0]: row[1:] for row in table(section("ARCHITECTURE.md", "settings"))}
    read = {
        field.alias: [shown(field.default), field.description]
        for field in Settings.model_fields.values()
    }
    assert documented == read


def test_every_setting_has_a_meaning():
    assert all(field.description and field.alias for field in Settings.model_fields.values())


def test_the_readme_names_no_setting_that_is_gone():
    known = {str(field.alias) for field in Settings.model_fields.values()}
    known |= {"COMFYUI_DIR", "COMFYUI_PYTHON", "ATELIER_SIDECAR_URL"}
    for document in (
        "README.md",
        "ARCHITECTURE.md",
        "SECURITY.md",
        "docs/runs.md",
        "docs/lora-files.md",
    ):
        named = set(re.findall(r"\b(?:COMFYUI|ATELIER)_[A-Z_]+\b|\bDATABASE_URL\b", text(document)))
        assert named <= known, document


def test_every_table_is_documented():
    documented = [row[0] for row in table(section("ARCHITECTURE.md", "tables"))]
    assert sorted(documented) == sorted(metadata.tables)


def layout() -> str:
    """The tree that the document draws."""
    return text("ARCHITECTURE.md").split("```text\n")[1].split("```")[0]


def test_every_module_of_the_islands_is_in_the_layout():
    drawn = layout()
    repeated = {"__init__.py", "routes.py", "service.py", "store.py", "models.py", "__main__.py"}
    lacking = [
        str(file.relative_to(ROOT))
        for island in ("nodes", "server_routes", "sidecar")
        for file in (ROOT / island).rglob("*.py")
        if not {"migrations", "stand_in"} & set(file.parts)
        and file.name not in repeated
        and file.name not in drawn
    ]
    assert lacking == []


def test_every_folder_and_module_of_the_layout_exists():
    names = set(re.findall(r"\b[\w./]+\.py\b", layout())) - {""}
    there = {file.name for file in ROOT.rglob("*.py")}
    assert {name for name in names if name.split("/")[-1] not in there} == set()
    folders = re.findall(r"^ *([\w./]+)/ ", layout(), re.MULTILINE)
    present = {file.parent.name for file in ROOT.rglob("*") if file.is_file()}
    assert {name for name in folders if name.split("/")[-1] not in present} == set()

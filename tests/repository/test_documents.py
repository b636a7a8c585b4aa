"""Links lead somewhere, decisions have their four parts, threats have their tests."""

import re
from pathlib import Path

import pytest
from repository import ROOT, files, text

DECISIONS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
DOCUMENTS = sorted(file for file in files() if file.suffix == ".md")


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_has_its_number_and_its_four_parts(page: Path):
    lines = page.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith(f"# {page.name[:4]}: ")
    headings = [line for line in lines if line.startswith("## ")]
    assert headings == ["## Context", "## Decision", "## Consequences", "## Alternatives"]


def test_decisions_are_numbered_without_a_gap():
    assert [page.name[:4] for page in DECISIONS] == [
        f"{n:04}" for n in range(1, len(DECISIONS) + 1)
    ]


def test_every_decision_is_listed_under_its_title():
    listed = text("docs/adr/README.md")
    for page in DECISIONS:
        title = page.read_text(encoding="utf-8").splitlines()[0][len("# 0001: ") :]
        assert f"| [{page.name[:4]}]({page.name}) | {title} |" in listed


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub links to them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_or_heading_leads_there(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        # GitHub keeps the space that a trailing "..." leaves as a dash
        assert not anchor or anchor in {found.rstrip("-") for found in anchors(file)}, target


def test_every_threat_names_tests_that_exist():
    rows = [line for line in text("SECURITY.md").splitlines() if line.startswith("| ")]
    threats = [row for row in rows if not row.startswith("| threat |")]
    assert threats
    for row in threats:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            assert re.search(rf"^(async )?def {test}\(", text(file), re.MULTILINE), (file, test)


def test_every_state_of_a_run_is_explained():
    from sidecar.runs.models import Status

    page = text("docs/runs.md")
    assert [status.value for status in Status if f"| `{status.value}` |" not in page] == []

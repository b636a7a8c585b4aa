"""What may and may not be in a file of the repository."""

import re
from pathlib import Path

import pytest
from repository import ROOT, files, python_files

MAX_LINES = 300
MAX_TEST_LINES = 450
"""A suite is a list: one noun's rules stay together."""
MAX_BYTES = 500_000


def test_a_python_file_is_short_or_says_at_its_top_why_it_is_long():
    too_long = {}
    for file in python_files():
        lines = file.read_text(encoding="utf-8").splitlines()
        limit = MAX_TEST_LINES if "tests" in file.relative_to(ROOT).parts else MAX_LINES
        if len(lines) > limit and not re.search(r"\b[Ll]ong\b", " ".join(lines[:15])):
            too_long[str(file.relative_to(ROOT))] = len(lines)
    assert too_long == {}


def test_every_module_says_what_it_is():
    silent = [
        str(file.relative_to(ROOT))
        for file in python_files()
        if not re.match(r"(#[^\n]*\n)*r?\"\"\"\S", file.read_text(encoding="utf-8"))
    ]
    assert silent == []


def test_no_file_is_large_or_no_text():
    for file in files():
        assert file.stat().st_size <= MAX_BYTES, file
        file.read_text(encoding="utf-8")


def test_no_file_holds_a_private_key():
    begin = "-----BEGIN "
    for file in files():
        assert not re.search(begin + r"[A-Z ]*PRIVATE KEY", file.read_text(encoding="utf-8")), file


def test_no_file_names_a_place_on_the_machine_that_it_was_written_on():
    places = {str(ROOT), str(Path.home())} - {"/", ""}
    for file in files():
        found = file.read_text(encoding="utf-8")
        for place in places:
            assert not re.search(re.escape(place) + r"(?![\w-])", found), (file, place)


def test_test_files_have_names_of_their_own():
    names = [file.name for file in python_files() if file.name.startswith("test_")]
    # the two prompt_shape rooms, in two islands, have one name
    assert sorted({n for n in names if names.count(n) > 1} - {"test_prompt_shape.py"}) == []


@pytest.mark.parametrize("name", ["requirements.txt"])
def test_comfyui_manager_can_read_the_requirements_line_by_line(name: str):
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(r"[a-z0-9-]+(==|>=|~=)[\w.*]+(,<[\w.]+)?", line), line

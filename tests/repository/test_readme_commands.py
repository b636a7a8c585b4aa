"""The commands of the README are the ones that are checked, and work."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from repository import ROOT, section, shell_blocks, text

from sidecar.__main__ import main

DEMO = "python -m pip install -r requirements.txt && python -m sidecar demo"
TESTS = "python -m pip install -r requirements-dev.txt && python -m pytest"


def test_the_two_commands_stand_in_the_readme_as_they_are():
    assert shell_blocks("README.md")[:2] == [f"{DEMO}\n", f"{TESTS}\n"]


def test_ci_runs_both_as_they_stand_there():
    lines = [line.strip() for line in text(".ci/run").splitlines()]
    assert TESTS in lines
    assert f"{DEMO} --once --port 0" in lines


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such bit")
def test_ci_can_be_executed():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_documented_sessions_are_those_of_nox():
    sessions = set(re.findall(r"^def (\w+)\(session", text("noxfile.py"), re.MULTILINE))
    named = re.findall(r"^\|[^|]+\| `(\w+)` \|", text("CONTRIBUTING.md"), re.MULTILINE)
    assert set(named) == sessions


def test_the_flags_of_the_demo_that_the_readme_names_exist(capsys):
    with pytest.raises(SystemExit):
        main(["demo", "--help"])
    known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    named = set(re.findall(r"--[\w-]+", " ".join(re.findall(r"demo --.*", text("README.md")))))
    assert named
    assert named <= known


@pytest.fixture
def demo() -> Iterator[str]:
    """A demo that serves; the URL of its API."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sidecar", "demo", "--port", "0"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert process.stdout is not None
    try:
        api = ""
        for line in process.stdout:
            if found := re.match(r"The sidecar answers at (\S+)\.$", line):
                api = found[1]
            if line.startswith("Serving until"):
                break
        assert api, "the demo ended"
        yield api
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.skipif(
    sys.platform == "win32" or not (shutil.which("bash") and shutil.which("curl")),
    reason="the walk is written for bash and curl",
)
def test_the_walk_with_curl_ends_with_a_picture(demo: str, tmp_path: Path):
    walk = re.search(r"```sh\n(.*)```", section("README.md", "walk"), re.DOTALL)
    assert walk
    script, times = re.subn(r"^API=.*$", f"API={demo}", walk[1], flags=re.MULTILINE)
    assert times == 1
    (tmp_path / "python").symlink_to(sys.executable)
    walked = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert walked.returncode == 0, walked.stderr
    assert '"status":"succeeded"' in walked.stdout
    assert "event: done" in walked.stdout
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")

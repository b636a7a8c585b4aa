"""Follows a block of shell commands of the README literally, at a terminal, as a reader does.

What differs between the document and this machine (addresses, passwords) is replaced, and each
replacement must be found.
"""

import os
import pty
import re
import select
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from repository import ROOT, section

PASSWORD = "correct horse battery"
WAIT_SECONDS = 50
_SERVE = "python -m sidecar serve"
_READY = "curl -sS --fail --retry 40 --retry-all-errors --retry-delay 1 -o /dev/null {url}/ready"


def walk(name: str, folder: Path, port: int, replaced: Mapping[str, str], *after: str) -> str:
    """Follow ``walk-<name>`` of the README in ``folder``; what the terminal showed.

    A block that ends with serving is left serving while the commands in ``after`` are carried out;
    then, as at the end of every block, what it left running is ended. The sidecar listens on
    ``port``.
    """
    block = textwrap.dedent(section("README.md", f"walk-{name}"))
    script = "".join(re.findall(r"```sh\n(.*?)```", block, re.DOTALL))
    for old, new in replaced.items():
        assert old in script, old
        script = script.replace(old, new)
    lines = script.rstrip().split("\n")
    if lines[-1] == _SERVE:
        lines[-1:] = [f"{_SERVE} &", _READY.format(url=f"http://127.0.0.1:{port}")]
    whole = "\n".join(["trap 'kill $(jobs -p) && wait' EXIT", *lines, *after])
    _python_on_path(folder)
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("ATELIER_", "PG"))},
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "ATELIER_PORT": str(port),
        "ATELIER_DATA_DIR": str(folder / "data"),
        "COMFYUI_URL": "http://127.0.0.1:1",
    }
    return _at_a_terminal(["bash", "-eu", "-o", "pipefail", "-c", whole], environment, ROOT)


def _python_on_path(folder: Path) -> None:
    (folder / "bin").mkdir(exist_ok=True)
    python = folder / "bin" / "python"
    if not python.exists():
        # not a link: Python finds its virtual environment by the path it is called by
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
        python.chmod(0o755)


def _at_a_terminal(command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> str:
    """Run it, typing the password wherever one is asked for; it must end with 0."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execvpe(command[0], list(command), dict(environment))  # noqa: S606 - a shell itself
    shown, answered = "", 0
    deadline = time.monotonic() + WAIT_SECONDS
    try:
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 0.2)[0]:
                continue
            try:
                read = os.read(terminal, 4096)
            except OSError:  # Linux's way to say that the other end is closed
                break
            if not read:
                break
            shown += read.decode(errors="replace")
            asked = len(re.findall(r"(?:Password|Again): ", shown))
            while answered < asked:
                os.write(terminal, f"{PASSWORD}\n".encode())
                answered += 1
        else:
            raise AssertionError(f"it took too long:\n{shown}")
        _, status = os.waitpid(pid, 0)
        pid = 0
        assert os.waitstatus_to_exitcode(status) == 0, shown
        return shown
    finally:
        os.close(terminal)
        if pid:
            os.kill(pid, 9)
            os.waitpid(pid, 0)

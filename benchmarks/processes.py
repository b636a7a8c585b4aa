"""The processes that a benchmark measures: each a child that ends when the benchmark does."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVERS = Path(__file__).with_name("servers.py")
API = "/api/v1/comfyui"
END_SECONDS = 20
SIDECAR = (sys.executable, "-m", "sidecar", "serve", "--child")
UNSECURED = (sys.executable, str(SERVERS), "unsecured")
"""The same, as the owner of the tables."""


@dataclass(frozen=True)
class Child:
    """A server on 127.0.0.1."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Studio:
    """A sidecar beside a stand-in for ComfyUI that says when each request arrived."""

    sidecar: Child
    comfyui: Child
    folder: Path

    @property
    def api(self) -> str:
        """Where the sidecar's API begins."""
        return self.sidecar.url + API


@contextmanager
def studio(
    program: Sequence[str] = SIDECAR, *, held: bool = False, **settings: str
) -> Iterator[Studio]:
    """Both in a temporary folder; ``settings`` are environment variables of the sidecar.

    ``held``: ComfyUI takes prompts, and begins none. ``program`` is the sidecar.
    """
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="atelier-benchmark-"))
        folder = Path(name)
        loras = folder / "loras"
        for each in (loras, folder / "comfyui"):
            each.mkdir()
        arguments = ["--base-dir", str(folder / "comfyui"), "--loras-dir", str(loras)]
        if held:
            arguments.append("--held")
        comfyui = stack.enter_context(server("comfyui", *arguments, folder=folder))
        environment = {
            "COMFYUI_URL": comfyui.url,
            "COMFYUI_LORAS_DIR": str(loras),
            "ATELIER_DATA_DIR": str(folder / "data"),
            "ATELIER_PORT": "0",
            **settings,
        }
        sidecar = stack.enter_context(_child("sidecar", program, environment, folder))
        yield Studio(sidecar, comfyui, folder)


@contextmanager
def server(kind: str, *arguments: str, folder: Path) -> Iterator[Child]:
    """One of ``servers.py``; its log goes into ``folder``."""
    with _child(kind, [sys.executable, str(SERVERS), kind, *arguments], {}, folder) as child:
        yield child


def command(*arguments: str, given: str, **settings: str) -> None:
    """Run a command of the sidecar's to its end; ``given`` is its input."""
    with tempfile.TemporaryDirectory(prefix="atelier-benchmark-") as folder:
        done = subprocess.run(
            [sys.executable, "-m", "sidecar", *arguments],
            cwd=ROOT,
            env={**_without_settings(), "ATELIER_DATA_DIR": folder, **settings},
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr}")


def resident(child: Child) -> tuple[int, int] | None:
    """Bytes of memory now and at their peak; None where the system has no /proc."""
    try:
        status = Path(f"/proc/{child.pid}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    lines = dict(line.split(":", 1) for line in status.splitlines())
    now, peak = (int(lines[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, peak


@contextmanager
def _child(
    name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path
) -> Iterator[Child]:
    """Start a server that prints one line of JSON with its ``port``."""
    log = folder / f"{name}.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**_without_settings(), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            said = log.read_text(encoding="utf-8", errors="replace")
            raise SystemExit(f"The {name} did not start:\n{said[-2000:]}")
        yield Child(process.pid, int(json.loads(line)["port"]))
    finally:
        with suppress(OSError):
            process.stdin.close()  # each of them ends at the end of its input
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _without_settings() -> dict[str, str]:
    """The environment, without settings of a studio that is really used."""
    ours = ("ATELIER_", "COMFYUI_", "DATABASE_URL")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}

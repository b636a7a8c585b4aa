"""A real ComfyUI for the tests that are marked ``comfyui``: found, started, ended.

COMFYUI_DIR is the folder with ``main.py``, COMFYUI_PYTHON an interpreter that can run it; without
them ``~/ComfyUI`` and the interpreter of its ``.venv``. Nothing is ever downloaded.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tiny_models

READY_SECONDS = 120.0


@dataclass(frozen=True)
class Installation:
    """Where ComfyUI is."""

    folder: Path
    python: Path


def find_comfyui() -> Installation | None:
    """The installation that the environment names, or the one in the home folder; None without."""
    folder = Path(os.environ.get("COMFYUI_DIR") or Path.home() / "ComfyUI")
    inside = "Scripts/python.exe" if sys.platform == "win32" else "bin/python"
    python = Path(os.environ.get("COMFYUI_PYTHON") or folder / ".venv" / inside)
    if (folder / "main.py").is_file() and python.is_file():
        return Installation(folder, python)
    return None


def python_version(comfyui: Installation) -> tuple[int, ...]:
    """(major, minor) of its interpreter."""
    code = "import sys; print(*sys.version_info[:2])"
    answer = subprocess.run([comfyui.python, "-c", code], check=True, capture_output=True)
    return tuple(int(part) for part in answer.stdout.split())


def make_tiny_models(comfyui: Installation, folder: Path) -> Path:
    """Run tiny_models.py on ComfyUI's interpreter; the folder."""
    script = Path(tiny_models.__file__)
    subprocess.run([comfyui.python, script, folder], check=True, timeout=300)
    return folder


class ComfyUIServer:
    """One real server with a base folder of its own. It is up when ``start`` returns."""

    def __init__(self, comfyui: Installation, base: Path) -> None:
        self.base = base
        self._comfyui = comfyui
        self._log_file = base / "comfyui.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        for name in ("custom_nodes", "user", "models"):
            (base / name).mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def loras_dir(self) -> Path:
        """Its LoRA folder."""
        return self.base / "models" / "loras"

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """What all its processes have written so far."""
        return self._log_file.read_text(encoding="utf-8", errors="replace")

    def add_models(self, models: Path) -> None:
        """Copy model files into its own folder."""
        shutil.copytree(models, self.base / "models", dirs_exist_ok=True)

    def add_pack(self, pack: Path, name: str) -> None:
        """Link a pack into custom_nodes under a folder name of the test's choice."""
        (self.base / "custom_nodes" / name).symlink_to(pack, target_is_directory=True)

    def start(self, *, args: Sequence[str] = (), env: Mapping[str, str] | None = None) -> None:
        """Start it and wait until it answers. May be called again after it has ended."""
        database = (self.base / "user" / "comfyui.db").as_posix()
        command = [str(self._comfyui.python), "main.py", "--cpu", "--disable-api-nodes"]
        command += ["--listen", "127.0.0.1", "--port", str(self.port)]
        command += ["--base-directory", str(self.base)]
        command += ["--database-url", f"sqlite:///{database}", *args]
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._comfyui.folder,
                env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the tests is not for it
            )
        self._wait_until_ready(self._process)

    def stop(self) -> None:
        """End it as Ctrl-C does, or by force when it takes too long."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT if sys.platform != "win32" else signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def kill(self) -> None:
        """End it without warning."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def _wait_until_ready(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(
                    f"ComfyUI ended with {process.returncode}:\n{self.log()[-4000:]}"
                )
            try:
                with urllib.request.urlopen(f"{self.url}/queue", timeout=5):  # noqa: S310 -- our own URL
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.25)
        self.kill()
        raise RuntimeError(f"ComfyUI was not ready in time:\n{self.log()[-4000:]}")


def _free_port() -> int:
    """ComfyUI cannot take port 0 and say which it got."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

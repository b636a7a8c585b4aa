"""The sidecar as a child process, tied to this one by a pipe that only this one holds."""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .child_log import level_and_text

PACK_ROOT = Path(__file__).resolve().parent.parent

# An isolated interpreter (Windows portable, -I) cannot `-m sidecar`; this works from any folder,
# for a pack folder of any name. The current folder leaves the path: ComfyUI's has a module `utils`.
_BOOT = (
    "import runpy, sys; sys.path[:] = [sys.argv.pop(1), *filter(None, sys.path)]; "
    "runpy.run_module('sidecar', run_name='__main__', alter_sys=True)"
)

MAX_LINE_BYTES = 65536
"""What is kept of one line of output."""

relayed = logging.getLogger("atelier.sidecar")


@dataclass(frozen=True)
class Start:
    """How to start one. ``host`` is where it can be reached (IPv6 in brackets)."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    host: str = "127.0.0.1"


def sidecar_command() -> tuple[str, ...]:
    """The sidecar on the interpreter that runs ComfyUI, as isolated as that one is."""
    isolation = ("-I",) if sys.flags.isolated else ("-s",) if sys.flags.no_user_site else ()
    # its log is UTF-8, whatever the console's code page
    return (sys.executable, *isolation, "-X", "utf8", "-c", _BOOT, str(PACK_ROOT))


class Child:
    """A started process, which ends when its stdin does: whatever signal ends us, it follows.

    It prints ``{"atelier": "listening", "port": N}`` on stdout once it listens, and logs to stderr.
    ``changed`` is called, on another thread, when its port is known and when it has ended.
    """

    def __init__(self, start: Start, changed: Callable[[], object]) -> None:
        self.start = start
        self.port: int | None = None
        self.last_line = ""
        self._changed = changed
        self._ended = threading.Event()
        self._process = _spawn(start)
        jobs = (self._await_end, self._read_stdout, self._read_stderr)
        self._threads = [threading.Thread(target=job, daemon=True) for job in jobs]
        for thread in self._threads:
            thread.start()

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._ended.is_set()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.returncode if self.ended else None

    def let_go(self) -> None:
        """Close our end of the pipe: the child ends in an orderly way."""
        with suppress(OSError):
            _pipe(self._process.stdin).close()

    def end(self, patience: float) -> None:
        """End it in an orderly way, by force after ``patience`` seconds, and wait for that."""
        self.let_go()
        if not self._ended.wait(patience):
            self._process.kill()
        for thread in self._threads:
            # a grandchild could hold the pipes open
            thread.join(timeout=5)

    def _await_end(self) -> None:
        self._process.wait()
        self._ended.set()
        self._changed()

    def _read_stdout(self) -> None:
        with _pipe(self._process.stdout) as stream:
            for line in _lines(stream.fileno()):
                if self.port is None and (port := _port_in(line)) is not None:
                    self.port = port
                    self._changed()

    def _read_stderr(self) -> None:
        with _pipe(self._process.stderr) as stream:
            for line in _lines(stream.fileno()):
                level, text = level_and_text(line)
                relayed.log(level, "[Atelier] %s", text)
                self.last_line = text.splitlines()[0] if text else ""


def _spawn(start: Start) -> "subprocess.Popen[bytes]":
    if sys.platform == "win32":
        # no Ctrl-C of ComfyUI's console, which would end it in the middle of ending
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    else:
        flags = 0
    # Unbuffered: a daemon thread inside a buffered read aborts the interpreter when that ends.
    return subprocess.Popen(  # noqa: S603 - our own command line
        start.command,
        env=dict(start.environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        creationflags=flags,
        start_new_session=sys.platform != "win32",
    )


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("the child was started without pipes")
    return stream


def _lines(descriptor: int) -> Iterator[str]:
    """The lines until the end of the stream, each cut at ``MAX_LINE_BYTES``."""
    line = bytearray()
    while chunk := os.read(descriptor, 65536):
        *whole, rest = chunk.split(b"\n")
        for part in whole:
            line += part[: MAX_LINE_BYTES - len(line)]
            yield line.decode("utf-8", "replace").rstrip("\r")
            line.clear()
        line += rest[: MAX_LINE_BYTES - len(line)]
    if line:
        yield line.decode("utf-8", "replace")


def _port_in(line: str) -> int | None:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or said.get("atelier") != "listening":
        return None
    port = said.get("port")
    return port if isinstance(port, int) else None

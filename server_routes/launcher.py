"""Starts the sidecar beside ComfyUI, says where it is, and starts it again when it ends.

A thread of its own with plain ``subprocess``: ComfyUI's loop may be of a kind that has no child
processes (other packs change the policy on Windows), and a blocked loop must not delay a restart.
"""

import http.client
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from .address import SidecarAddress
from .child import Child, Start

log = logging.getLogger("atelier")

READY_POLL_SECONDS = 0.2
REFUSED = 1
"""The exit code of a sidecar that cannot work as it is set up; its last line says why."""


@dataclass(frozen=True)
class Patience:
    """How long to wait before the next start, in seconds.

    Doubles from ``first`` to ``longest``; from ``refused`` for a sidecar that says it cannot work
    (another one may be about to let go of the data folder). Begins anew once one has been up for
    ``steady``. ``stopping`` is what an orderly end may take before it is forced.
    """

    first: float = 1.0
    refused: float = 5.0
    longest: float = 60.0
    steady: float = 60.0
    stopping: float = 20.0

    def next(self, last: float, *, up: float, refused: bool) -> float:
        """The wait after a sidecar that was up for ``up``, the wait before it being ``last``."""
        doubled = 0.0 if up >= self.steady else last * 2
        return min(max(doubled, self.refused if refused else self.first), self.longest)


class Launcher:
    """One sidecar at a time, from ``start`` until ``stop`` or the end of this process."""

    def __init__(
        self,
        address: SidecarAddress,
        start: Callable[[], Start],
        *,
        patience: Patience | None = None,
    ) -> None:
        self._address = address
        self._start = start
        self._patience = patience or Patience()
        self._stopping = threading.Event()
        self._changed = threading.Event()
        self._child: Child | None = None
        # a daemon: it must not keep ComfyUI from ending, which the sidecar notices by itself
        self._thread = threading.Thread(target=self._keep_up, name="atelier-launcher", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        if hasattr(os, "register_at_fork"):
            # a forked worker (multiprocessing) that outlives ComfyUI would hold the pipe open
            os.register_at_fork(after_in_child=self._let_go)
        self._thread.start()

    def stop(self) -> None:
        """End the sidecar in an orderly way and wait for that."""
        self._stopping.set()
        self._changed.set()
        self._thread.join()

    def _let_go(self) -> None:
        if self._child is not None:
            self._child.let_go()

    def _keep_up(self) -> None:
        wait = 0.0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                code, last_line = self._run_one()
            except OSError as error:
                code, last_line = None, f"it could not be started: {error}"
            if self._stopping.is_set():
                return
            up = time.monotonic() - began
            wait = self._patience.next(wait, up=up, refused=code == REFUSED)
            meanwhile = (
                "refuses prompts until then"
                if self._address.has_accounts
                else "works on without it"
            )
            again = f"Starting it again in {wait:g} s; ComfyUI {meanwhile}."
            log.warning("[Atelier] %s", _farewell(code, last_line, again))
            self._stopping.wait(wait)

    def _run_one(self) -> tuple[int | None, str]:
        """Run one sidecar to its end: its exit code and the last line it logged."""
        child = self._child = Child(self._start(), self._changed.set)
        try:
            if (url := self._url_once_ready(child)) is not None:
                self._address.arrived(url)
                log.info("[Atelier] The sidecar is ready at %s.", url)
            while not self._over(child):
                self._wait_for_change()
        finally:
            self._address.left()
            child.end(self._patience.stopping)
        return child.exit_code, child.last_line

    def _url_once_ready(self, child: Child) -> str | None:
        """The base URL once ``/ready`` answers 200; None when the child ends or we are to stop."""
        while not self._over(child):
            if child.port is None:
                self._wait_for_change()
            elif _is_ready(child.start.host, child.port):
                return f"http://{child.start.host}:{child.port}"
            else:
                self._wait_for_change(READY_POLL_SECONDS)
        return None

    def _over(self, child: Child) -> bool:
        return child.ended or self._stopping.is_set()

    def _wait_for_change(self, seconds: float | None = None) -> None:
        self._changed.wait(seconds)
        self._changed.clear()


def _is_ready(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host.strip("[]"), port, timeout=10)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _farewell(code: int | None, last_line: str, again: str) -> str:
    said = f": {last_line}" if last_line else "."
    if code == REFUSED:
        return (
            f"The sidecar cannot work{said} {again} (If another ComfyUI uses the same user "
            "directory, set ATELIER_DATA_DIR to a folder of its own for one of the two.)"
        )
    return f"The sidecar ended with exit code {code}{said} {again}"

"""ComfyUI may die of anything: the sidecar that it started goes with it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from waiting import until

ROOT = Path(__file__).resolve().parents[2]
PARENT = """
import os, sys, threading, time
root, script, forks = sys.argv[1:]
sys.path.insert(0, root)
from server_routes.address import SidecarAddress
from server_routes.child import Start
from server_routes.launcher import Launcher

ready = threading.Event()
address = SidecarAddress("t", {})
address.arrived = lambda url: (setattr(address, "url", url), ready.set())
start = Start((sys.executable, script, "good"), dict(os.environ))
Launcher(address, lambda: start).start()
ready.wait()
worker = os.fork() if forks == "forks" else 0
if worker or forks != "forks":
    print(address.url.rpartition(":")[2], worker, flush=True)
time.sleep(3600)
"""


@contextmanager
def running(forks: str = "") -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A process that has launched a sidecar; and that one's port."""
    script = ROOT / "tests" / "fakes" / "child_script.py"
    command = [sys.executable, "-c", PARENT, str(ROOT), str(script), forks]
    worker = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            port, worker = map(int, parent.stdout.readline().split())
            yield parent, port
        finally:
            parent.kill()
            if worker:
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)


async def nobody_listens(port: int) -> bool:
    """Whether the sidecar has gone."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to die of")
@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM", "SIGINT"])
async def test_whatever_ends_comfyui_the_sidecar_ends_too(end: str) -> None:
    with running() as (parent, port):
        assert not await nobody_listens(port)

        parent.send_signal(signal.Signals[end])

        await until(lambda: nobody_listens(port))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
async def test_a_forked_worker_that_outlives_comfyui_does_not_keep_the_sidecar() -> None:
    with running("forks") as (parent, port):
        parent.kill()

        await until(lambda: nobody_listens(port))

"""The sidecar's launch: found, watched, started again, and never left behind."""

import json
import logging
import os
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server_routes.address import SidecarAddress
from server_routes.child import Start
from server_routes.launcher import Launcher, Patience

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "fakes" / "child_script.py"
QUICK = Patience(first=0.01, refused=0.02, longest=0.05, stopping=1.0)
Launch = Callable[..., tuple[Launcher, "WatchedAddress"]]


class WatchedAddress(SidecarAddress):
    """An address that lets a test wait for the next news."""

    def __init__(self) -> None:
        self.environment: dict[str, str] = {}
        self.urls: list[str] = []
        self.news = threading.Semaphore(0)
        super().__init__("token", self.environment)

    def arrived(self, url: str) -> None:
        """Ready."""
        super().arrived(url)
        self.urls.append(url)
        self.news.release()


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Launch the script; the sidecar is ended after the test."""
    launched: list[Launcher] = []

    def start(*how: str) -> tuple[Launcher, WatchedAddress]:
        address = WatchedAddress()
        behaviours = iter(how)

        def next_start() -> Start:
            behaviour = next(behaviours, how[-1])
            return Start((sys.executable, str(SCRIPT), behaviour), {**os.environ, "MARK": "x"})

        launched.append(Launcher(address, next_start, patience=QUICK))
        launched[-1].start()
        return launched[-1], address

    yield start
    for launcher in launched:
        launcher.stop()


def get(url: str) -> dict[str, object]:
    """JSON from there."""
    with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 -- our own URL
        answer: dict[str, object] = json.load(response)
        return answer


def test_a_ready_sidecar_is_announced_here_and_in_the_environment(launch: Launch) -> None:
    _, address = launch("good")

    address.news.acquire()

    assert address.url == address.environment["ATELIER_SIDECAR_URL"]
    assert address.environment["ATELIER_PACK_TOKEN"] == "token"
    assert get(f"{address.url}/ready")["MARK"] == "x"


def test_stopping_ends_it_in_an_orderly_way_and_takes_the_announcement_back(launch: Launch) -> None:
    launcher, address = launch("good")
    address.news.acquire()

    launcher.stop()

    assert address.url is None
    assert address.environment == {}
    with pytest.raises(OSError, match="refused"):
        get(f"{address.urls[0]}/ready")


def test_a_sidecar_that_ends_is_started_again(
    launch: Launch, caplog: pytest.LogCaptureFixture
) -> None:
    _, address = launch("crash", "good")

    address.news.acquire()
    address.news.acquire()

    assert address.url == address.urls[1]
    assert "ended with exit code 3" in caplog.text


def test_a_sidecar_that_cannot_work_says_why_and_is_tried_again(
    launch: Launch, caplog: pytest.LogCaptureFixture
) -> None:
    _, address = launch("refuse", "good")

    address.news.acquire()

    logged = [record.getMessage() for record in caplog.records]
    (line,) = [message for message in logged if "cannot work" in message]
    assert "data_folder.in_use folder=shared" in line
    assert "ATELIER_DATA_DIR" in line


def test_a_sidecar_that_is_not_ready_is_not_announced(launch: Launch) -> None:
    launcher, address = launch("sulk")

    assert not address.news.acquire(timeout=1.5)
    launcher.stop()
    assert address.urls == []


def test_a_sidecar_that_does_not_end_is_killed(launch: Launch) -> None:
    launcher, address = launch("deaf")
    address.news.acquire()

    launcher.stop()

    with pytest.raises(OSError, match="refused"):
        get(f"{address.urls[0]}/ready")


def test_a_command_that_does_not_exist_is_logged_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tries = threading.Semaphore(0)

    def start() -> Start:
        tries.release()
        return Start(("/nowhere/python",), {})

    launcher = Launcher(WatchedAddress(), start, patience=QUICK)
    launcher.start()
    for _ in range(3):
        tries.acquire()
    launcher.stop()

    assert "could not be started" in caplog.text


def test_its_log_reaches_comfyuis_log_with_its_levels_and_in_bounds(
    launch: Launch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    launcher, address = launch("noise")
    address.news.acquire()
    launcher.stop()

    logged = {
        record.getMessage(): record.levelno
        for record in caplog.records
        if record.name == "atelier.sidecar"
    }
    assert logged["[Atelier] http.request path=/"] == logging.DEBUG
    assert logged["[Atelier] odd\nTraceback: here"] == logging.WARNING
    assert logged["[Atelier] not \N{REPLACEMENT CHARACTER} utf-8"] == logging.WARNING
    assert max(map(len, logged)) < 5000


def test_waits_double_up_to_the_longest_and_begin_anew_after_a_steady_time() -> None:
    patience = Patience()
    waits = [0.0]
    for _ in range(8):
        waits.append(patience.next(waits[-1], up=1, refused=False))

    assert waits[1:] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert patience.next(60, up=61, refused=False) == 1
    assert patience.next(0, up=1, refused=True) == 5

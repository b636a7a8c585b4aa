"""Two people on one real ComfyUI with the pack: accounts, Postgres, the editor and REST."""

import http.cookies
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from comfyui_server import ComfyUIServer
from pack_in_comfyui import API, ComfyUIsWithPack, ask, drawing, sidecar_pid, wait_for

ROOT = Path(__file__).resolve().parents[2]
ANN, BEN = "ann@example.org", "ben@example.org"
PASSWORD = "correct horse battery"

pytestmark = [pytest.mark.comfyui, pytest.mark.timeout(240)]


@pytest.fixture
def server(start_with_pack: ComfyUIsWithPack, postgres_url: str) -> Iterator[ComfyUIServer]:
    """A studio of two."""
    settings = {"ATELIER_AUTH": "local", "DATABASE_URL": postgres_url}
    for email in (ANN, BEN):
        subprocess.run(
            [sys.executable, "-m", "sidecar", "users", "add", email, "--password-stdin"],
            cwd=ROOT,
            env={**os.environ, **settings},
            input=PASSWORD.encode(),
            check=True,
        )
    server = start_with_pack(**settings)
    wait_for(server, lambda: ask(server, "GET", f"{API}/auth/me")[0] == 401)
    yield server
    server.stop()


def sign_in(server: ComfyUIServer, email: str) -> Mapping[str, str]:
    """What the browser sends from then on: the cookie alone."""
    order = json.dumps({"email": email, "password": PASSWORD}).encode()
    request = urllib.request.Request(  # noqa: S310
        f"{server.url}{API}/auth/login", order, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 -- our own URL
        cookie = http.cookies.SimpleCookie(answer.headers["Set-Cookie"])
    ((name, value),) = cookie.items()
    return {"Cookie": f"{name}={value.value}"}


def upload(server: ComfyUIServer, who: Mapping[str, str], name: str, weights: bytes) -> None:
    """Upload a LoRA."""
    head = (
        f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}.safetensors"\r\n\r\n'
    ).encode()
    sent = {**who, "X-Atelier": "1", "Content-Type": "multipart/form-data; boundary=b"}
    body = head + weights + b"\r\n--b--\r\n"
    assert ask(server, "POST", f"{API}/loras", body, sent)[0] == 201


def picture(server: ComfyUIServer, who: Mapping[str, str], run_id: str) -> bytes:
    """The pixels of a run's picture, once it has ended."""
    run: Any = None

    def is_over() -> bool:
        nonlocal run
        status, run = ask(server, "GET", f"{API}/runs/{run_id}", headers=who)
        return status == 200 and run["status"] in ("succeeded", "failed", "cancelled")

    wait_for(server, is_over)
    assert run["status"] == "succeeded", run
    _, png = ask(server, "GET", f"{API}/runs/{run_id}/outputs/0", headers=who)
    return bytes(png[png.index(b"IDAT") :])


def test_two_people_have_one_name_for_two_loras_and_never_meet(
    server: ComfyUIServer, tiny_models: Path
) -> None:
    graph = drawing("UserLoraLoader", "style")
    status, refused = ask(server, "POST", "/prompt", {"prompt": graph})
    assert (status, refused["error"]["type"]) == (401, "sign_in_required")
    people = {"a": sign_in(server, ANN), "b": sign_in(server, BEN)}
    pictures, runs = {}, {}
    for letter, who in people.items():
        weights = (tiny_models / "loras" / f"lora-{letter}.safetensors").read_bytes()
        upload(server, who, "style", weights)
        status, queued = ask(server, "POST", "/api/prompt", {"prompt": graph}, who)
        assert status == 200, queued
        runs[letter] = queued["prompt_id"]
        pictures[letter] = picture(server, who, queued["prompt_id"])
    assert pictures["a"] != pictures["b"]
    for letter, other in ("ab", "ba"):
        status, page = ask(server, "GET", f"{API}/runs", headers=people[letter])
        assert [run["id"] for run in page["items"]] == [runs[letter]]
        assert ask(server, "GET", f"{API}/runs/{runs[other]}", headers=people[letter])[0] == 404

    # over REST the same pictures come again, also when the sidecar is killed on the way
    order = {"workflow_json": graph}
    write = {**people["a"], "X-Atelier": "1"}
    status, run = ask(server, "POST", f"{API}/runs", order, write)
    assert status == 202, run
    os.kill(sidecar_pid(server), signal.SIGKILL)
    assert picture(server, people["a"], run["id"]) == pictures["a"]

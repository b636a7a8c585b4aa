"""The nodes' questions to the sidecar, over real sockets."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from nodes import gateway

FILE = {"path": "user-1/x.00000000.safetensors", "sha256": "ab", "name": "x", "version": 2}
Serve = Callable[..., list[Any]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Answer with these lines; what was asked is in the list."""
    servers: list[ThreadingHTTPServer] = []

    def start(*lines: Any, status: int = 200) -> list[Any]:
        asked: list[Any] = []

        class Door(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked.append((self.path, self.headers["X-Atelier-Pack"], question))
                self.send_response(status)
                self.end_headers()
                for line in lines:
                    raw = line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
                    self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("ATELIER_SIDECAR_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("ATELIER_PACK_TOKEN", "t")
        return asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_progress_is_passed_on_until_the_file_is_there(serve: Serve) -> None:
    asked = serve(
        {"progress": {"value": 1, "max": 9}}, {"progress": {"value": 9, "max": 9}}, {"lora": FILE}
    )
    shown: list[tuple[int, int]] = []

    file = gateway.ensure("p", "x", lambda value, top: shown.append((value, top)))

    assert file == gateway.LoraFile("user-1/x.00000000.safetensors", "ab")
    assert shown == [(1, 9), (9, 9)]
    assert asked == [("/internal/loras/ensure", "t", {"prompt_id": "p", "lora": "x"})]


def test_a_name_is_resolved_without_fetching(serve: Serve) -> None:
    asked = serve({"path": "shared/x.safetensors", "sha256": None})

    assert gateway.resolve(None, "x") == gateway.LoraFile("shared/x.safetensors", None)
    assert asked[0][0] == "/internal/loras/resolve"


def test_giving_up_in_the_middle_leaves_no_connection_open(serve: Serve) -> None:
    serve({"progress": {"value": 1, "max": 9}}, {"lora": FILE})

    def give_up(_value: int, _top: int) -> None:
        raise KeyError("interrupted")

    with pytest.raises(KeyError):
        gateway.ensure("p", "x", give_up)


@pytest.mark.parametrize("status", [200, 404, 422])
def test_a_refusal_keeps_its_code_and_message(serve: Serve, status: int) -> None:
    serve({"error": {"code": "lora_not_found", "message": "No.", "details": {}}}, status=status)

    with pytest.raises(gateway.RefusedError, match=r"No\.") as refused:
        gateway.ensure("p", "x", lambda *_: None)
    assert refused.value.code == "lora_not_found"


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], 200),
        ([b"not json\n"], 200),
        ([[1]], 200),
        ([{"progress": {"value": 1, "max": 2}}], 200),
        ([{"lora": {"path": 5}}], 200),
        ([{"error": {"code": "internal_error", "message": "", "details": {}}}], 500),
        ([{"error": {"code": "bad_pack_token", "message": "", "details": {}}}], 401),
        ([b"<html>\n"], 502),
    ],
)
def test_whoever_makes_no_sense_is_away(serve: Serve, lines: list[Any], status: int) -> None:
    serve(*lines, status=status)

    with pytest.raises(gateway.SidecarAwayError):
        gateway.ensure("p", "x", lambda *_: None)


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:9", "nonsense"])
def test_nobody_there_is_away(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("ATELIER_SIDECAR_URL", url)

    with pytest.raises(gateway.SidecarAwayError):
        gateway.resolve(None, "x")

"""A real ComfyUI with the pack in it, which has launched the real sidecar."""

import json
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from comfyui_server import ComfyUIServer, Installation
from sample_graphs import txt2img

ROOT = Path(__file__).resolve().parents[2]
API = "/api/v1/comfyui"
PACK_NAME = "Atelier Pack - v1.2"
Start = Callable[..., ComfyUIServer]


def packages_for(folder: Path) -> Path:
    """What the sidecar needs and ComfyUI lacks comes from our own packages, behind ComfyUI's: as
    after ``pip install -r requirements.txt`` in its environment."""
    folder.mkdir(exist_ok=True)
    ours = sysconfig.get_paths()["purelib"]
    (folder / "sitecustomize.py").write_text(f"import sys; sys.path.append({ours!r})\n")
    return folder


class ComfyUIsWithPack:
    """Starts them, each in a folder of its own; ``stop`` ends them all."""

    def __init__(self, comfyui: Installation, models: Path, folder: Path) -> None:
        self._comfyui = comfyui
        self._models = models
        self._folder = folder
        self._packages = packages_for(folder / "packages")
        self._started: list[ComfyUIServer] = []

    def __call__(self, *args: str, **settings: str) -> ComfyUIServer:
        """One more, with these environment variables; its sidecar may not be ready yet."""
        server = ComfyUIServer(self._comfyui, self._folder / f"comfyui-{len(self._started)}")
        server.add_models(self._models)
        server.add_pack(ROOT, PACK_NAME)
        self._started.append(server)
        self.start(server, *args, **settings)
        return server

    def start(self, server: ComfyUIServer, *args: str, **settings: str) -> None:
        """Start it, again if it has ended."""
        environment = {"PYTHONPATH": str(self._packages), "ATELIER_SIDECAR_URL": "", **settings}
        server.start(args=args, env=environment)

    def stop(self) -> None:
        """End them."""
        for server in self._started:
            server.stop()


def wait_for_sidecar(server: ComfyUIServer) -> None:
    """Until its sidecar answers through its port."""
    wait_for(server, lambda: ask(server, "GET", f"{API}/loras")[0] == 200)


def wait_for(server: ComfyUIServer, condition: Callable[[], bool]) -> None:
    """Until it holds; a minute at most, then the log."""
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(server.log()[-5000:])


def ask(
    server: ComfyUIServer,
    method: str,
    path: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Any]:
    """Status, and the answer as JSON where it is."""
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    url, sent = server.url + path, dict(headers or {})
    if data is not None:
        sent.setdefault("Content-Type", "application/json")
    request = urllib.request.Request(url, data, sent, method=method)  # noqa: S310
    if isinstance(body, bytes):
        request.add_header("Content-Type", "multipart/form-data; boundary=b")
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 -- our own URL
            status, raw = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, raw = error.code, error.read()
    return status, json.loads(raw) if raw[:1] in (b"{", b"[") else raw


def upload(server: ComfyUIServer, path: str, weights: bytes, name: str = "style") -> Any:
    """Upload a LoRA."""
    field = 'Content-Disposition: form-data; name="file"; filename="{}.safetensors"'
    head = b"--b\r\n" + field.format(name).encode()
    status, lora = ask(server, "POST", API + path, head + b"\r\n\r\n" + weights + b"\r\n--b--\r\n")
    assert status == 201, lora
    return lora


def drawing(loader: str, name: str, seed: int = 1) -> dict[str, Any]:
    """Text to image with a loader of one kind."""
    graph = txt2img()
    graph["2"]["class_type"] = loader
    graph["2"]["inputs"]["lora_name"] = name
    for node in graph.values():
        if node["class_type"] == "KSampler":
            node["inputs"]["seed"] = seed
    return graph


def queue(server: ComfyUIServer, graph: dict[str, Any]) -> Any:
    """Queue as the editor does, and wait for the run's end in Atelier's history."""
    status, answer = ask(server, "POST", "/api/prompt", {"prompt": graph, "client_id": "c"})
    assert status == 200, answer
    return ended(server, answer["prompt_id"])


def ended(server: ComfyUIServer, run_id: str) -> Any:
    """The run, when it is over; its sidecar may be away meanwhile."""
    run: Any = None

    def is_over() -> bool:
        nonlocal run
        status, run = ask(server, "GET", f"{API}/runs/{run_id}")
        return status == 200 and run["status"] in ("succeeded", "failed", "cancelled")

    wait_for(server, is_over)
    return run


def sidecar_pid(server: ComfyUIServer) -> int:
    """The only child of a ComfyUI; Linux only."""
    tasks = Path(f"/proc/{server.pid}/task")
    return int("".join((task / "children").read_text() for task in tasks.iterdir()).split()[0])


def picture(server: ComfyUIServer, run: Any) -> bytes:
    """The bytes of a run's picture."""
    assert run["status"] == "succeeded", run
    status, png = ask(server, "GET", f"{API}/runs/{run['id']}/outputs/0")
    assert status == 200
    assert isinstance(png, bytes)
    return png


def pixels(server: ComfyUIServer, run: Any) -> bytes:
    """A picture without the prompt in it."""
    png = picture(server, run)
    return png[png.index(b"IDAT") :]

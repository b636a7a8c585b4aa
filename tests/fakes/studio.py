"""A whole studio for tests: the real sidecar, over HTTP, beside the stand-in for ComfyUI."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from sidecar.comfyui.stand_in import StandIn, serving
from sidecar.demo_files import demo_lora, demo_prompt
from sidecar.http.routing import BASE
from sidecar.serving import listening
from sidecar.settings import Settings

WAIT_SECONDS = 30
FINAL = ("succeeded", "failed", "cancelled")
CHECKPOINT = "tiny-sd15.ckpt"
DATABASE_URL = "database-url"
"""A file in a test's folder that says which database its sidecars use; without it: SQLite."""


class Studio:
    """A client of one sidecar. ``answer`` is (status, JSON)."""

    def __init__(self, session: aiohttp.ClientSession, host: str, pack_token: str) -> None:
        self.session = session
        self.host = host
        self.api = host + BASE
        self.pack = {"X-Atelier-Pack": pack_token}

    async def ask(self, method: str, path: str, **kwargs: Any) -> tuple[int, Any]:
        """One request below the API's base, or at the root for ``//path``."""
        url = self.host + path[1:] if path.startswith("//") else self.api + path
        async with self.session.request(method, url, **kwargs) as response:
            text = await response.text()
            return response.status, json.loads(text) if text else None

    async def upload(self, filename: str, data: bytes) -> dict[str, Any]:
        """Upload a LoRA."""
        form = aiohttp.FormData()
        form.add_field("file", data, filename=filename)
        status, lora = await self.ask("POST", "/loras", data=form)
        assert status in (200, 201), lora
        return dict(lora)

    async def save(self, prompt: Any, name: str = "flow", **fields: Any) -> str:
        """Store a workflow; its id."""
        body = {"name": name, "workflow_json": prompt, **fields}
        status, workflow = await self.ask("POST", "/workflows", json=body)
        assert status == 201, workflow
        return str(workflow["id"])

    async def run(self, prompt: Any, **params: Any) -> dict[str, Any]:
        """Queue a run of a graph that is not stored."""
        body = {"workflow_json": prompt, "input_params": params}
        status, run = await self.ask("POST", "/runs", json=body)
        assert status == 202, run
        return dict(run)

    async def until(self, run_id: str, *statuses: str, attempts: int = 0) -> dict[str, Any]:
        """Wait until a run is in one of these states (by default: final), on such an attempt."""
        for _ in range(WAIT_SECONDS * 20):
            _, run = await self.ask("GET", f"/runs/{run_id}")
            if run["status"] in (statuses or FINAL) and run["attempts"] >= attempts:
                return dict(run)
            await asyncio.sleep(0.05)
        raise AssertionError(f"still {run['status']}: {run}")

    async def picture(self, run: dict[str, Any], index: int = 0) -> bytes:
        """The bytes of an output."""
        async with self.session.get(self.host + run["outputs"][index]["url"]) as response:
            assert response.status == 200
            return await response.read()


def drawing(seed: int = 1, lora: str | None = None, loader: str = "LoraLoader") -> dict[str, Any]:
    """Text to image in API format, with or without a LoRA."""
    prompt = demo_prompt(CHECKPOINT)
    prompt["6"]["inputs"]["seed"] = seed
    prompt["6"]["inputs"]["steps"] = 2
    if lora is None:
        del prompt["2"]
        for node, name, index in (("3", "clip", 1), ("4", "clip", 1), ("6", "model", 0)):
            prompt[node]["inputs"][name] = ["1", index]
    else:
        prompt["2"]["class_type"] = loader
        prompt["2"]["inputs"]["lora_name"] = lora
    return prompt


def settings_for(folder: Path, comfyui_url: str, **changes: Any) -> Settings:
    """Settings of a sidecar in this folder."""
    values = {
        "COMFYUI_URL": comfyui_url,
        "COMFYUI_LORAS_DIR": folder / "loras",
        "ATELIER_DATA_DIR": folder / "data",
        "ATELIER_PORT": 0,
        "ATELIER_PACK_TOKEN": "pack-token",
        "ATELIER_COMFYUI_PATIENCE": 10,
        **changes,
    }
    if (url := folder / DATABASE_URL).exists():
        values["DATABASE_URL"] = url.read_text(encoding="utf-8")
    return Settings.model_validate(values)


@asynccontextmanager
async def studio(settings: Settings) -> AsyncIterator[Studio]:
    """A running sidecar."""
    async with listening(settings) as port, aiohttp.ClientSession() as session:
        yield Studio(session, f"http://127.0.0.1:{port}", "pack-token")


@asynccontextmanager
async def stand_in_at(
    folder: Path, *, port: int = 0, **options: Any
) -> AsyncIterator[tuple[StandIn, str]]:
    """A running stand-in and its URL."""
    (folder / "loras").mkdir(exist_ok=True)
    (folder / "comfyui").mkdir(exist_ok=True)
    stand_in = StandIn(folder / "comfyui", folder / "loras", **options)
    async with serving(stand_in, port) as url:
        yield stand_in, url


def lora_file(seed: int = 1) -> bytes:
    """A valid LoRA; each seed has other weights."""
    return demo_lora(seed)

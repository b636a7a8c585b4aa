"""The main job in one command: upload a LoRA, save a workflow, run it, keep the picture."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

from .comfyui.stand_in import StandIn, serving
from .demo_files import demo_lora, demo_prompt
from .errors import InvalidError, UpstreamError
from .http.routing import BASE
from .serving import listening
from .settings import Settings

LORA_NAME = "demo-style.safetensors"
STEP_SECONDS = 0.15
CHECKPOINT_LOADER = "CheckpointLoaderSimple"


async def demo(comfyui_url: str | None, loras_dir: Path | None, *, once: bool, port: int) -> None:
    """Show the main job, then serve until Ctrl-C; ``once`` ends when the picture is kept."""
    if (comfyui_url is None) != (loras_dir is None):
        raise InvalidError("invalid_arguments", "--comfyui and --loras-dir belong together.")
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="atelier-demo-")))
        if comfyui_url is None or loras_dir is None:
            loras_dir = folder / "loras"
            comfyui_url = await stack.enter_async_context(_stand_in(folder, loras_dir))
            _say(f"A small stand-in for ComfyUI answers at {comfyui_url}.")
        settings = Settings.model_validate(
            {
                "COMFYUI_URL": comfyui_url,
                "COMFYUI_LORAS_DIR": loras_dir,
                "ATELIER_DATA_DIR": folder / "data",
                "ATELIER_PORT": port,
            }
        )
        bound = await stack.enter_async_context(listening(settings))
        api = f"http://{settings.host}:{bound}{BASE}"
        _say(f"The sidecar answers at {api}.")
        session = await stack.enter_async_context(aiohttp.ClientSession())
        await _main_job(session, api, comfyui_url)
        _say(f"The API, to read:  {api}/docs")
        if not once:
            _say("Serving until Ctrl-C.")
            await asyncio.Event().wait()


@asynccontextmanager
async def _stand_in(folder: Path, loras_dir: Path) -> AsyncIterator[str]:
    stand_in = StandIn(folder / "comfyui", loras_dir, step_seconds=STEP_SECONDS)
    async with serving(stand_in) as url:
        yield url


async def _main_job(session: aiohttp.ClientSession, api: str, comfyui_url: str) -> None:
    form = aiohttp.FormData()
    form.add_field("file", demo_lora(), filename=LORA_NAME)
    lora = await _post(session, f"{api}/loras", data=form)
    _say(f"Uploaded the LoRA {lora['name']!r}: version {lora['version']}.")
    checkpoint = await _first_checkpoint(session, comfyui_url)
    order = {"name": "Demo", "workflow_json": demo_prompt(checkpoint)}
    workflow = await _post(session, f"{api}/workflows", json=order)
    _say(f"Saved the workflow {workflow['name']!r}.")
    params = {"input_params": {"lora_name": LORA_NAME}}
    run = await _post(session, f"{api}/workflows/{workflow['id']}/run", json=params)
    _say(f"Run {run['id']} is {run['status']}.")
    await _follow(session, f"{api}/runs/{run['id']}/events")
    run = await _answer(await session.get(f"{api}/runs/{run['id']}"))
    if run["status"] != "succeeded":
        raise UpstreamError("comfyui", f"The run {run['status']}: {json.dumps(run['error'])}")
    host = api.removesuffix(BASE)
    for output in run["outputs"]:
        _say(f"The picture is kept: {host}{output['url']}  ({output['bytes']} bytes)")


async def _follow(session: aiohttp.ClientSession, url: str) -> None:
    """Print the run's events as they come."""
    async with session.get(url, timeout=aiohttp.ClientTimeout(total=None)) as stream:
        kind = ""
        async for raw in stream.content:
            name, _, value = raw.decode().strip().partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                _say_event(kind, json.loads(value))


def _say_event(kind: str, data: dict[str, Any]) -> None:
    if kind == "status":
        _say(f"  {data['status']}")
    elif kind == "progress":
        _say(f"  node {data['node']}: {data['value']:g} of {data['max']:g}")
    elif kind == "output":
        _say(f"  output {data['filename']}")
    elif kind == "error":
        _say(f"  {data['code']}: {data['message']}")


async def _first_checkpoint(session: aiohttp.ClientSession, comfyui_url: str) -> str:
    """The first checkpoint that ComfyUI lists; InvalidError("no_checkpoint") if there is none."""
    async with session.get(f"{comfyui_url}/object_info/{CHECKPOINT_LOADER}") as response:
        info = await response.json()
    names = info[CHECKPOINT_LOADER]["input"]["required"]["ckpt_name"][0]
    if not names:
        raise InvalidError("no_checkpoint", "This ComfyUI has no checkpoint to draw with.")
    return str(names[0])


async def _post(session: aiohttp.ClientSession, url: str, **body: Any) -> dict[str, Any]:
    return await _answer(await session.post(url, **body))


async def _answer(response: aiohttp.ClientResponse) -> dict[str, Any]:
    body: dict[str, Any] = await response.json()
    if "error" in body and response.status >= 400:
        raise UpstreamError("sidecar", body["error"]["message"], body["error"])
    return body


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()

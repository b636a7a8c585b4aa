"""The real ComfyUI and the stand-in side by side: the same requests to both, answers compared.

What is put aside before comparing, and why:
- timestamps and queue numbers: they depend on when and after what a server was asked;
- tracebacks, and texts that name the server's own folders: other code, other folders;
- the order of errors within a node, of ``executed`` and of outputs: ComfyUI keeps them in sets;
- what stands for a tensor in ``current_inputs``: ComfyUI shows the object's repr;
- tooltips and other words for people;
- the five random letters in the name of a preview.
"""

import copy
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
from comfyui_server import ComfyUIServer
from sample_graphs import txt2img
from waiting import until

from sidecar.comfyui.stand_in import StandIn, serving

Prompt = dict[str, Any]
CHECKPOINT = {
    "1": txt2img()["1"],
    "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 2]}},
}
_numbers = itertools.count()


@dataclass(frozen=True)
class Server:
    """One of the two."""

    url: str
    base: Path
    session: aiohttp.ClientSession

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status, and the JSON of the answer where it is JSON."""
        async with self.session.request(method, self.url + path, **options) as answer:
            is_json = answer.content_type == "application/json"
            return answer.status, await answer.json() if is_json else None

    async def run(self, prompt: Any, **body: Any) -> Any:
        """Post a prompt, wait for its end; the history entry, or the refusal."""
        prompt_id = str(uuid4())
        order = {"prompt": prompt, "prompt_id": prompt_id, **body}
        status, answer = await self.ask("POST", "/prompt", json=order)
        if status != 200:
            return status, answer

        async def finished() -> bool:
            return bool((await self.ask("GET", f"/history/{prompt_id}"))[1])

        await until(finished)
        _, history = await self.ask("GET", f"/history/{prompt_id}")
        return json.loads(json.dumps([answer, history]).replace(prompt_id, "<id>"))


@dataclass(frozen=True)
class Pair:
    """The real server and the stand-in, with the same LoRA folder."""

    real: Server
    stand_in: Server
    loras_dir: Path

    async def both(self, method: str, path: str, **options: Any) -> tuple[Any, Any]:
        """The same request to both."""
        return (
            await self.real.ask(method, path, **options),
            await self.stand_in.ask(method, path, **options),
        )

    async def run(self, prompt: Any, **body: Any) -> tuple[Any, Any]:
        """The same prompt through both."""
        ran = [await server.run(copy.deepcopy(prompt), **body) for server in self]
        return ran[0], ran[1]

    def __iter__(self) -> Iterator[Server]:
        return iter((self.real, self.stand_in))


@asynccontextmanager
async def side_by_side(real_comfyui: ComfyUIServer, base: Path) -> AsyncIterator[Pair]:
    """Both, with one LoRA folder, empty histories, and only the checkpoint cached."""
    stand_in = StandIn(base, real_comfyui.loras_dir, step_seconds=0.005)
    async with aiohttp.ClientSession() as session, serving(stand_in) as url:
        real = Server(real_comfyui.url, real_comfyui.base, session)
        pair = Pair(real, Server(url, base, session), real_comfyui.loras_dir)
        for server in pair:
            await server.run(copy.deepcopy(CHECKPOINT))
            await server.ask("POST", "/history", json={"clear": True})
        yield pair


def new_prompt() -> Prompt:
    """A graph that no cache has seen and whose files get a prefix of their own."""
    return unseen(txt2img())


def unseen(prompt: Prompt) -> Prompt:
    """The same with an input that no node declares: ignored, but part of every cache's key.

    The checkpoint stays as it is; both have just loaded it.
    """
    number = next(_numbers)
    for node in prompt.values():
        if node["class_type"] != "CheckpointLoaderSimple":
            node["inputs"]["_unseen"] = number
        if "filename_prefix" in node["inputs"]:
            node["inputs"]["filename_prefix"] = f"run{number}-{uuid4().hex}"
    return prompt


def differences(real: Any, stand_in: Any, path: str = "") -> list[str]:
    """Where two answers differ in what is not put aside; empty when they do not."""
    real, stand_in = comparable(real), comparable(stand_in)
    if isinstance(real, dict) and isinstance(stand_in, dict):
        keys = sorted(real.keys() | stand_in.keys(), key=str)
        missing = "<not there>"
        pairs = [(key, real.get(key, missing), stand_in.get(key, missing)) for key in keys]
    elif isinstance(real, list | tuple) and isinstance(stand_in, list | tuple):
        if len(real) != len(stand_in):
            return [f"{path}: {real!r} != {stand_in!r}"]
        pairs = [(n, *both) for n, both in enumerate(zip(real, stand_in, strict=True))]
    else:
        return [] if real == stand_in else [f"{path}: {real!r} != {stand_in!r}"]
    return [found for key, a, b in pairs for found in differences(a, b, f"{path}/{key}")]


def comparable(value: Any) -> Any:
    """Put aside what the module's docstring names, here and below."""
    match value:
        case dict():
            return {name: item for name, item in map(_comparable_item, value.items()) if name}
        case [{"extra_info": _}, *_]:
            return sorted(map(comparable, value), key=lambda e: (e["type"], e["details"]))
        case [float() | int(), str(), dict(), _, list()]:  # an item of the queue
            return ["<number>", *map(comparable, value[1:4]), sorted(value[4])]
        case list() | tuple():
            return [comparable(item) for item in value]
        case str():
            return _comparable_text(value)
        case _:
            return value


def _comparable_item(item: tuple[Any, Any]) -> tuple[Any, Any]:
    match item:
        case ("timestamp" | "traceback" | "number", _):
            return None, None
        case (("executed" | "dependent_outputs" | "current_outputs") as name, list(ids)):
            return name, sorted(ids)
        case ("input_config", [kind, options]):
            return "input_config", input_spec((kind, options))
        case ("current_inputs", dict(shown)):
            aside = ("prompt", "extra_pnginfo", "model", "clip", "images")
            return "current_inputs", {n: v for n, v in shown.items() if n not in aside}
        case ("exception_type", str(name)):
            return "exception_type", name.rpartition(".")[2]
        case (name, value):
            return name, comparable(value)
    return item


def _comparable_text(text: str) -> str:
    text = re.sub(r" not in [(\[].*", " not in (choices)", text)
    text = re.sub(r"_temp_[a-z]{5}_", "_temp_abcde_", text)
    text = re.sub(r"(is not allowed\.).*", r"\1", text, flags=re.DOTALL)
    return "\n".join(sorted(text.split("\n")))


def input_spec(value: Any) -> Any:
    """An input's specification without the words for people and without choices."""
    kind, options = value[0], dict(value[1]) if len(value) > 1 else {}
    options.pop("tooltip", None)
    return ["<choices>" if isinstance(kind, list) else kind, options]

"""ComfyUI's routes, each also below ``/api``."""

import hashlib
import mimetypes
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from aiohttp import web

from .validation import validate

if TYPE_CHECKING:
    from .server import StandIn

VERSION = "0.3.64"
AS_DOWNLOAD = frozenset({"text/html", "application/xhtml+xml", "text/javascript", "text/css"})
TYPES = mimetypes.MimeTypes()
TYPES.add_type("image/webp", ".webp")


class HttpApi:
    """The handlers. What a handler trips over becomes the 500 that it is in ComfyUI."""

    def __init__(self, stand_in: "StandIn") -> None:
        self._it = stand_in
        self._number = 0

    def routes(self) -> list[web.RouteDef]:
        """All of them, in both spellings."""
        table = (
            ("GET", "/ws", self.get_websocket),
            ("GET", "/prompt", self.get_prompt),
            ("POST", "/prompt", self.post_prompt),
            ("GET", "/queue", self.get_queue),
            ("POST", "/queue", self.post_queue),
            ("GET", "/history", self.get_history),
            ("GET", "/history/{prompt_id}", self.get_history_entry),
            ("POST", "/history", self.post_history),
            ("POST", "/interrupt", self.post_interrupt),
            ("POST", "/free", self.post_free),
            ("GET", "/object_info", self.get_object_info),
            ("GET", "/object_info/{node_class}", self.get_one_object_info),
            ("GET", "/models/{folder}", self.get_models),
            ("GET", "/view", self.get_view),
            ("POST", "/upload/image", self.post_image),
            ("GET", "/system_stats", self.get_system_stats),
        )
        return [
            web.route(method, prefix + path, handler)
            for method, path, handler in table
            for prefix in ("", "/api")
        ]

    async def get_websocket(self, request: web.Request) -> web.WebSocketResponse:
        return await self._it.sockets.serve(request, self._it.queue_info())

    async def get_prompt(self, _request: web.Request) -> web.Response:
        return web.json_response(self._it.queue_info())

    async def post_prompt(self, request: web.Request) -> web.Response:
        body = await _named(request)
        if "number" in body:
            number = float(body["number"])
        else:
            number = -self._number if body.get("front") else self._number
            self._number += 1
        if "prompt" not in body:
            error = {
                "type": "no_prompt",
                "message": "No prompt provided",
                "details": "No prompt provided",
                "extra_info": {},
            }
            return web.json_response({"error": error, "node_errors": {}}, status=400)
        prompt = body["prompt"]
        prompt_id = str(body.get("prompt_id", uuid4()))
        verdict = validate(
            prompt, self._it.classes, self._it.folders, body.get("partial_execution_targets")
        )
        extra_data = body.get("extra_data", {})
        if "client_id" in body:
            extra_data["client_id"] = body["client_id"]
        node_errors = verdict.node_errors or {}
        if verdict.error is not None:
            refusal = {"error": verdict.error, "node_errors": node_errors}
            return web.json_response(refusal, status=400)
        self._it.note_what_stops_comfyui(prompt, extra_data)
        self._it.queue.put((number, prompt_id, prompt, extra_data, list(verdict.outputs)))
        answer = {"prompt_id": prompt_id, "number": number, "node_errors": node_errors}
        return web.json_response(answer)

    async def get_queue(self, _request: web.Request) -> web.Response:
        queue = self._it.queue
        return web.json_response({"queue_running": queue.running, "queue_pending": queue.pending})

    async def post_queue(self, request: web.Request) -> web.Response:
        body = await _named(request)
        if body.get("clear"):
            self._it.queue.clear()
        for prompt_id in body.get("delete", ()):
            self._it.queue.delete(prompt_id)
        return web.Response()

    async def get_history(self, request: web.Request) -> web.Response:
        max_items, offset = request.query.get("max_items"), request.query.get("offset")
        page = self._it.queue.page_of_history(
            None if max_items is None else int(max_items), -1 if offset is None else int(offset)
        )
        return web.json_response(page)

    async def get_history_entry(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info["prompt_id"]
        history = self._it.queue.history
        return web.json_response({prompt_id: history[prompt_id]} if prompt_id in history else {})

    async def post_history(self, request: web.Request) -> web.Response:
        body = await _named(request)
        if body.get("clear"):
            self._it.queue.history.clear()
        for prompt_id in body.get("delete", ()):
            self._it.queue.history.pop(prompt_id, None)
        return web.Response()

    async def post_interrupt(self, request: web.Request) -> web.Response:
        try:
            body = await request.json()
        except ValueError:
            body = {}
        prompt_id = body.get("prompt_id")
        if not prompt_id or any(item[1] == prompt_id for item in self._it.queue.running):
            self._it.worker.interrupt()
        return web.Response()

    async def post_free(self, request: web.Request) -> web.Response:
        body = await request.json()
        self._it.free(memory=bool(body.get("free_memory", False)))
        return web.Response()

    async def get_object_info(self, _request: web.Request) -> web.Response:
        classes, folders = self._it.classes, self._it.folders
        return web.json_response({name: c.describe(folders) for name, c in classes.items()})

    async def get_one_object_info(self, request: web.Request) -> web.Response:
        name = request.match_info["node_class"]
        known = self._it.classes.get(name)
        return web.json_response({name: known.describe(self._it.folders)} if known else {})

    async def get_models(self, request: web.Request) -> web.Response:
        match request.match_info["folder"]:
            case "loras":
                return web.json_response(self._it.folders.lora_names())
            case "checkpoints":
                return web.json_response(list(self._it.folders.checkpoints))
            case _:
                return web.Response(status=404)

    async def get_view(self, request: web.Request) -> web.StreamResponse:
        if "filename" not in request.query:
            return web.Response(status=404)
        name, kind = request.query["filename"], request.query.get("type", "output")
        for named in ("output", "input", "temp"):
            if name.endswith(f"[{named}]"):
                # ComfyUI cuts one more, for the space before it
                name, kind = name[: -len(named) - 3], named
        root = self._it.folders.of_type(kind)
        if not name or name[0] == "/" or ".." in name or root is None:
            return web.Response(status=400)
        folder = root / request.query.get("subfolder", "")
        if not _inside(folder, root):
            return web.Response(status=403)
        file = folder / Path(name).name
        if not file.is_file():
            return web.Response(status=404)
        kind = TYPES.guess_type(file.name)[0] or "application/octet-stream"
        headers = {
            "Content-Disposition": f'filename="{file.name}"',
            "Content-Type": "application/octet-stream" if kind in AS_DOWNLOAD else kind,
        }
        return web.FileResponse(file, headers=headers)

    async def post_image(self, request: web.Request) -> web.Response:
        form = await request.post()
        image, kind = form.get("image"), str(form.get("type", "input"))
        if not isinstance(image, web.FileField) or not image.filename:
            return web.Response(status=400)
        root = self._it.folders.base / kind
        if self._it.folders.of_type(kind) is None:
            raise ValueError(kind)
        subfolder = str(form.get("subfolder", ""))
        folder = _below(root, subfolder)
        if not _inside(folder / image.filename, root):
            return web.Response(status=400)
        name = _store(folder, image.filename, image.file.read(), form.get("overwrite"))
        return web.json_response({"name": name, "subfolder": subfolder, "type": kind})

    async def get_system_stats(self, _request: web.Request) -> web.Response:
        system = {
            "os": os.name,
            "comfyui_version": VERSION,
            "python_version": sys.version,
            "pytorch_version": "none: this is a stand-in",
            "argv": sys.argv,
        }
        return web.json_response({"system": system, "devices": []})


@web.middleware
async def as_comfyui_fails(request: web.Request, handler: Any) -> web.StreamResponse:
    """An exception is a 500 with aiohttp's text; expected here, so without a traceback logged."""
    answer: web.StreamResponse
    try:
        answer = await handler(request)
    except web.HTTPException:
        raise
    except Exception:
        text = "500 Internal Server Error\n\nServer got itself in trouble"
        answer = web.Response(status=500, text=text)
    return answer


async def _named(request: web.Request) -> Any:
    """The body. ComfyUI asks ``in`` before it looks, so a list or a text has none of the names."""
    body = await request.json()
    return {} if isinstance(body, list | str) else body


def _inside(path: Path, root: Path) -> bool:
    absolute = os.path.abspath(path)  # noqa: PTH100 -- resolve() would follow links
    return os.path.commonpath((absolute, str(root))) == str(root)


def _below(root: Path, subfolder: str) -> Path:
    return root / os.path.normpath(subfolder)


def _store(folder: Path, name: str, content: bytes, overwrite: object) -> str:
    """Write an upload; the same bytes keep the name, others get a number."""
    folder.mkdir(parents=True, exist_ok=True)
    digest, first, number = hashlib.sha256(content).digest(), Path(name), 1
    while overwrite not in ("true", "1") and (folder / name).exists():
        if hashlib.sha256((folder / name).read_bytes()).digest() == digest:
            return name
        name = f"{first.stem} ({number}){first.suffix}"
        number += 1
    (folder / name).write_bytes(content)
    return name

"""ComfyUI's PromptServer as far as packs see it: routes, middlewares, prompt handlers, the queue.

``post_prompt`` and ``add_routes`` do what ComfyUI 0.3.64's do; validation refuses the prompt
``"invalid"`` alone.
"""

import asyncio
import uuid
from typing import Any, ClassVar

from aiohttp import web


class PromptQueue:
    """Prompts that wait; nothing takes them."""

    def __init__(self) -> None:
        self.queue: list[tuple[float, str, Any, Any]] = []

    def put(self, item: tuple[float, str, Any, Any]) -> None:
        """Queue one."""
        self.queue.append(item)

    def get_current_queue_volatile(self) -> tuple[list[Any], list[Any]]:
        """Running and pending."""
        return [], list(self.queue)


class PromptServer:
    """``PromptServer.instance`` of a ComfyUI that has not started to listen."""

    instance: ClassVar["PromptServer"]

    def __init__(self, max_upload_bytes: int = 100 << 20) -> None:
        PromptServer.instance = self
        self.app = web.Application(client_max_size=max_upload_bytes, middlewares=[answers_options])
        self.routes = web.RouteTableDef()
        self.prompt_queue = PromptQueue()
        self.on_prompt_handlers: list[Any] = []
        self.number = 0
        self.routes.post("/prompt")(self.post_prompt)

    def add_on_prompt_handler(self, handler: Any) -> None:
        """Handlers may change a prompt, in their order."""
        self.on_prompt_handlers.append(handler)

    def add_routes(self) -> None:
        """Serve every route twice, below ``/api`` too."""
        doubled = web.RouteTableDef()
        for route in self.routes:
            if isinstance(route, web.RouteDef):
                doubled.route(route.method, "/api" + route.path)(route.handler, **route.kwargs)
        self.app.add_routes(doubled)
        self.app.add_routes(self.routes)

    async def post_prompt(self, request: web.Request) -> web.Response:
        """Queue a prompt."""
        body = await request.json()
        for handler in self.on_prompt_handlers:
            body = handler(body)
        number = float(body["number"]) if "number" in body else self.number
        self.number += 1
        await asyncio.sleep(0)  # a node may validate asynchronously
        if body["prompt"] == "invalid":
            error = {"type": "invalid_prompt", "message": "no", "details": "", "extra_info": {}}
            return web.json_response({"error": error, "node_errors": {}}, status=400)
        prompt_id = str(body.get("prompt_id", uuid.uuid4()))
        self.prompt_queue.put((number, prompt_id, body["prompt"], body.get("extra_data", {})))
        answer: dict[str, Any] = {"prompt_id": prompt_id, "number": number, "node_errors": {}}
        return web.json_response(answer)


@web.middleware
async def answers_options(request: web.Request, handler: Any) -> web.StreamResponse:
    """ComfyUI's own middleware answers OPTIONS itself."""
    if request.method == "OPTIONS":
        return web.Response()
    response: web.StreamResponse = await handler(request)
    return response

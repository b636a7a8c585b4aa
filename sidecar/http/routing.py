"""A room's routes as a table: what is served and what the OpenAPI document says are one thing."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel

BASE = "/api/v1/comfyui"


@dataclass(frozen=True)
class Part:
    """One field of a multipart form. ``kind`` is ``file`` or ``text``."""

    name: str
    kind: str
    required: bool = False
    note: str = ""


@dataclass(frozen=True)
class Route:
    """One operation. ``path`` is below ``BASE``, in aiohttp's form: ``/runs/{id}``.

    ``answer`` None means no body (204) unless ``content_type`` says which bytes come. ``also`` are
    further good statuses with the same answer.
    ``errors`` are the statuses besides 400, 401, 422 and 500 that it can end in.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    body: type[BaseModel] | None = None
    form: tuple[Part, ...] = ()
    query: type[BaseModel] | None = None
    headers: tuple[tuple[str, str], ...] = ()
    answer: type[BaseModel] | None = None
    status: int = 200
    also: tuple[int, ...] = ()
    content_type: str = "application/json"
    errors: tuple[int, ...] = field(default=())


def mount(app: web.Application, routes: Iterable[Route], *, base: str = BASE) -> None:
    """Serve the routes below ``base``."""
    for route in routes:
        # aiohttp answers HEAD with the GET handler, whose body it then does not send; a stream of
        # events would only end with the run
        if route.method == "GET" and route.content_type != "text/event-stream":
            app.router.add_get(base + route.path, route.handler)
        else:
            app.router.add_route(route.method, base + route.path, route.handler)

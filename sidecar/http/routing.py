"""A room's routes as a table: what is served and what the OpenAPI document says are one thing."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel

from .errors import expect

BASE = "/api/v1/comfyui"


class Access(str, Enum):
    """Who may ask."""

    OPEN = "open"
    """Anybody; credentials are not looked at."""
    WELCOME = "welcome"
    """Anybody; credentials that are shown must be good."""
    SIGNED_IN = "signed in"
    ADMIN = "admin"


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
    ``scope`` is what an API token needs for it, where that is not the room's own.
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
    access: Access = Access.SIGNED_IN
    scope: str | None = None

    @property
    def needs(self) -> str:
        """The scope that an API token needs: ``scope``, or what room and method say."""
        room = self.path.split("/")[1]
        return self.scope or f"{room}:{'read' if self.method == 'GET' else 'write'}"


_MOUNTED: web.AppKey[dict[tuple[str, str], Route]] = web.AppKey("mounted", dict)


def mount(app: web.Application, routes: Iterable[Route], *, base: str = BASE) -> None:
    """Serve the routes below ``base``."""
    mounted = app.setdefault(_MOUNTED, {})
    for route in routes:
        mounted[route.method, base + route.path] = route
        # aiohttp answers HEAD with the GET handler, whose body it then does not send; a stream of
        # events would only end with the run
        if route.method == "GET" and route.content_type != "text/event-stream":
            app.router.add_get(base + route.path, route.handler, expect_handler=expect)
        else:
            app.router.add_route(
                route.method, base + route.path, route.handler, expect_handler=expect
            )


def route_of(request: web.Request) -> Route | None:
    """The row of the table that answers this request; None for what no table has."""
    resource = request.match_info.route.resource
    if resource is None:
        return None
    method = "GET" if request.method == "HEAD" else request.method
    return request.app.get(_MOUNTED, {}).get((method, resource.canonical))

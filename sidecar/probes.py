"""What is not the API's own: ``/health``, ``/ready``, and the API's description."""

from aiohttp import web
from pydantic import BaseModel

from . import __version__
from .accounts.sign_in_page import sign_in_page
from .errors import AtelierError
from .http.bodies import reply
from .http.openapi import document, page
from .http.routing import BASE, Route
from .outside import Outside

OUTSIDE = web.AppKey("outside", Outside)


class Readiness(BaseModel):
    """``GET /ready``. ComfyUI may be away: the sidecar is ready all the same."""

    ready: bool
    version: str
    comfyui: str


async def health(_request: web.Request) -> web.Response:
    """The process listens."""
    return web.json_response({"healthy": True})


async def ready(request: web.Request) -> web.Response:
    """Database and blobs can be used."""
    outside = request.app[OUTSIDE]
    await outside.database.check()
    await outside.blobs.check()
    try:
        comfyui = f"ComfyUI {(await outside.comfyui.system_stats()).comfyui_version}"
    except AtelierError as error:
        comfyui = f"away ({error.code})"
    return reply(Readiness(ready=True, version=__version__, comfyui=comfyui))


def mount_probes(app: web.Application, routes: tuple[Route, ...], *, signs_in: bool) -> None:
    """Serve both probes, the description of these routes as a document and as a page, and, where
    anybody signs in, a page for that."""
    described = document(routes, __version__)

    async def openapi(_request: web.Request) -> web.Response:
        """The OpenAPI document."""
        return web.json_response(described)

    async def readable(_request: web.Request) -> web.Response:
        """The same for people."""
        return web.Response(text=page(described), content_type="text/html")

    app.router.add_get("/health", health)
    app.router.add_get("/ready", ready)
    app.router.add_get(f"{BASE}/openapi.json", openapi)
    app.router.add_get(f"{BASE}/docs", readable)
    if signs_in:
        app.router.add_get(f"{BASE}/sign-in", sign_in_page)

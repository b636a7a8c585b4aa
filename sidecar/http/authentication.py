"""Who is asking. Without sign-in everyone is the one local account."""

import hmac
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from ..errors import ForbiddenError, NotFoundError, UnauthenticatedError
from ..principal import LOCAL
from .keys import set_principal

INTERNAL = "/internal/"
PACK_HEADER = "X-Atelier-Pack"


@web.middleware
async def refuse_other_sites(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what a page of another site asks for with this person's browser.

    The same check as ComfyUI's own: Origin, where a browser sends it, must name this host.
    """
    origin = request.headers.get("Origin")
    if origin is not None and _host_of(origin) != request.host.lower():
        raise ForbiddenError("cross_origin", "Requests from other sites are refused.")
    return await handler(request)


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # brackets that hold no IPv6 address
        return None


@web.middleware
async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Set the principal of the request."""
    set_principal(request, LOCAL)
    return await handler(request)


def pack_only(token: str | None) -> Middleware:
    """The middleware that keeps ``/internal/*`` for the pack that started this sidecar.

    Without a token there is no pack, and nothing there.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(INTERNAL):
            if token is None:
                raise NotFoundError("route")
            shown = request.headers.get(PACK_HEADER, "")
            # aiohttp turns bytes of a header that are not UTF-8 into lone surrogates
            if not hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), token.encode()):
                raise UnauthenticatedError("bad_pack_token", "Only the pack may ask this.")
        return await handler(request)

    return check

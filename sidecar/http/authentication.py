"""Who is asking, and whether they may."""

import hmac
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from ..errors import ForbiddenError, NotFoundError, UnauthenticatedError
from ..principal import Credentials, Principal, Role
from .keys import asker_of, is_from_pack, mark_from_pack, set_principal, set_recheck
from .request_log import AUDIT
from .routing import Access, Route, route_of

audit = logging.getLogger(AUDIT)

INTERNAL = "/internal/"
PACK_HEADER = "X-Atelier-Pack"
ASSERTION_HEADER = "Cf-Access-Jwt-Assertion"
WRITE_HEADER = "X-Atelier"
"""A page of another site cannot set it: writes by cookie need it."""
ACTING_HEADER = "X-Atelier-As"

Authenticate = Callable[[Credentials], Awaitable[Principal]]
"""Raises UnauthenticatedError, ForbiddenError, UnavailableError."""


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


def identify(authenticate: Authenticate, *, signs_in: bool = True) -> Middleware:
    """The middleware that sets the principal of a request, or refuses it, as its route says.

    Where nobody ``signs_in``, what a browser sends along gives no rights, so nothing can be forged.
    When the body comes after the headers, both are asked anew once it is in: however late that is,
    who was shut out meanwhile shall not finish what was begun.
    """

    async def admit(request: web.Request, route: Route, shown: Credentials) -> None:
        try:
            principal = await authenticate(shown)
        except UnauthenticatedError:
            if shown.are_there or route.access is not Access.WELCOME:
                raise
        else:
            _authorize(route, principal)
            set_principal(request, principal)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        route = route_of(request)
        if route is not None and route.access is not Access.OPEN:
            shown = credentials_of(request)
            if signs_in:
                refuse_forged_write(request, shown)
            if not request.content.is_eof():
                set_recheck(request, partial(admit, request, route, shown))
            await admit(request, route, shown)
            _note_acting(request)
        return await handler(request)

    return check


def _note_acting(request: web.Request) -> None:
    """An admin who asks for another's things does not do so unseen."""
    principal = asker_of(request)
    if principal is not None and principal.acting is not None:
        extra = {
            "admin": str(principal.acting),
            "account": str(principal.id),
            "method": request.method,
            "path": request.path,
        }
        audit.info("admin.acts_for", extra=extra)


def credentials_of(request: web.Request) -> Credentials:
    """What the request shows."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return Credentials(
        bearer=token.strip() or None if scheme.lower() == "bearer" else None,
        cookie=request.cookies.get(cookie_name(request)),
        assertion=request.headers.get(ASSERTION_HEADER),
        acting_for=request.headers.get(ACTING_HEADER),
    )


def cookie_name(request: web.Request) -> str:
    """Cookies ignore ports: two studios on one host would end each other's sessions."""
    try:
        port = urlsplit(f"//{request.host}").port
    except ValueError:
        port = None
    return f"atelier_{port or 'session'}"


def refuse_forged_write(request: web.Request, shown: Credentials) -> None:
    """Refuse a change that needs nothing but what a browser sends by itself, without the header.

    It sends cookies, and Cloudflare makes the assertion of one, whoever's page asks.
    """
    by_browser = shown.bearer is None and shown.are_there
    reads = request.method in ("GET", "HEAD")
    # what the pack asks was asked on ComfyUI's port, behind its own check of the origin
    from_pack = request.path.startswith(INTERNAL)
    if by_browser and not reads and not from_pack and WRITE_HEADER not in request.headers:
        raise ForbiddenError(
            "header_missing",
            f"Changes without a bearer token need the header {WRITE_HEADER}: 1.",
            {"header": WRITE_HEADER},
        )


def _authorize(route: Route, principal: Principal) -> None:
    if route.access is Access.ADMIN and principal.role is not Role.ADMIN:
        raise ForbiddenError("admins_only", "Only an admin may do this.")
    if not principal.may(route.needs):
        raise ForbiddenError(
            "scope_missing", f"This token lacks the scope {route.needs}.", {"scope": route.needs}
        )


def pack_only(token: str | None) -> Middleware:
    """The middleware that keeps ``/internal/*`` for the pack that started this sidecar.

    Without a token there is no pack, and nothing there. What the pack passes on is marked as such.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        # aiohttp turns bytes of a header that are not UTF-8 into lone surrogates
        shown = request.headers.get(PACK_HEADER, "").encode("utf-8", "surrogateescape")
        if token is not None and hmac.compare_digest(shown, token.encode()):
            mark_from_pack(request)
        if request.path.startswith(INTERNAL):
            if token is None:
                raise NotFoundError("route")
            if not is_from_pack(request):
                raise UnauthenticatedError("bad_pack_token", "Only the pack may ask this.")
        return await handler(request)

    return check

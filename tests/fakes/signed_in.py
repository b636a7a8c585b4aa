"""Middlewares of the sidecar, for tests that serve a room's routes alone."""

from aiohttp.typedefs import Middleware

from sidecar.http.authentication import identify, refuse_other_sites
from sidecar.http.errors import map_errors
from sidecar.http.request_log import tag_requests
from sidecar.principal import LOCAL, Credentials, Principal


def everyone_is(principal: Principal = LOCAL) -> Middleware:
    """Whoever asks, and whatever is shown, it is this one."""

    async def authenticate(_shown: Credentials) -> Principal:
        return principal

    return identify(authenticate)


def middlewares(principal: Principal = LOCAL) -> list[Middleware]:
    """All that stand before a route."""
    return [tag_requests, map_errors, refuse_other_sites, everyone_is(principal)]

"""Where a request comes from: the browser's address, also when the pack passed it on."""

import ipaddress

from aiohttp import web

from .keys import is_from_pack


def client_address(request: web.Request) -> str:
    """The client's IP address; empty when there is none.

    What the pack says in ``X-Forwarded-For`` counts, when it showed its token; nobody else's does.
    """
    if is_from_pack(request):
        first = request.headers.get("X-Forwarded-For", "").partition(",")[0].strip()
        try:
            return str(ipaddress.ip_address(first))
        except ValueError:
            pass
    return request.remote or ""

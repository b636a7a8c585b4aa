"""What a request carries, under typed keys.

The one file that knows both aiohttp's: 3.11 (ComfyUI's floor) has no RequestKey, 3.14 warns at a
string key.
"""

from typing import Any, cast

from aiohttp import web

from ..principal import Principal

_RequestKey: Any = getattr(web, "RequestKey", None)
_PRINCIPAL: Any = _RequestKey("principal", Principal) if _RequestKey else "principal"


def set_principal(request: web.Request, principal: Principal) -> None:
    """Remember who is asking; authentication does this."""
    request[_PRINCIPAL] = principal


def principal_of(request: web.Request) -> Principal:
    """Who is asking."""
    return cast("Principal", request[_PRINCIPAL])

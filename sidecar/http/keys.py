"""What a request carries, under typed keys.

The one file that knows both aiohttp's: 3.11 (ComfyUI's floor) has no RequestKey, 3.14 warns at a
string key.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, cast

from aiohttp import web

from ..principal import Principal

_RequestKey: Any = getattr(web, "RequestKey", None)
_PRINCIPAL: Any = _RequestKey("principal", Principal) if _RequestKey else "principal"
_RECHECK: Any = _RequestKey("recheck", object) if _RequestKey else "recheck"
_FROM_PACK: Any = _RequestKey("from_pack", bool) if _RequestKey else "from_pack"


Recheck: TypeAlias = Callable[[], Awaitable[None]]


def set_principal(request: web.Request, principal: Principal) -> None:
    """Remember who is asking; authentication does this."""
    request[_PRINCIPAL] = principal


def principal_of(request: web.Request) -> Principal:
    """Who is asking, on a route that only signed-in people reach."""
    return cast("Principal", request[_PRINCIPAL])


def asker_of(request: web.Request) -> Principal | None:
    """Who is asking, or None, on a route where nobody needs to say."""
    return cast("Principal | None", request.get(_PRINCIPAL))


def set_recheck(request: web.Request, recheck: Recheck) -> None:
    """Remember how to ask again whether it may do what it asks; authentication does this."""
    request[_RECHECK] = recheck


async def recheck(request: web.Request) -> None:
    """To be awaited once a body is in, which may be long after its headers were.

    Sets the principal anew where it came later than they, or raises what authentication raises.
    """
    if (again := cast("Recheck | None", request.get(_RECHECK))) is not None:
        await again()


def mark_from_pack(request: web.Request) -> None:
    """Remember that the pack's token was shown with it."""
    request[_FROM_PACK] = True


def is_from_pack(request: web.Request) -> bool:
    """Whether the pack inside ComfyUI sent or passed it on, and no one else."""
    return bool(request.get(_FROM_PACK, False))

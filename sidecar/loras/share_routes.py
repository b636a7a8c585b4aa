"""Sharing LoRAs over HTTP."""

from aiohttp import web

from ..http.bodies import path_id, read_json, reply
from ..http.keys import principal_of
from ..http.routing import Route
from .sharing import LoraSharing
from .views import ShareOrder, SharesView

SHARING = web.AppKey("lora_sharing", LoraSharing)


async def shares(request: web.Request) -> web.Response:
    """Show whom a LoRA is shared with."""
    found = await request.app[SHARING].shared(principal_of(request), path_id(request, "lora"))
    return reply(SharesView.of(found))


async def share(request: web.Request) -> web.Response:
    """Share a LoRA with somebody, and with nobody else."""
    lora_id = path_id(request, "lora")
    order = await read_json(request, ShareOrder)
    shared = await request.app[SHARING].share(
        principal_of(request),
        lora_id,
        everyone=order.everyone,
        users=order.users,
        can_download=order.can_download,
    )
    return reply(SharesView.of(shared))


async def unshare(request: web.Request) -> web.Response:
    """Share a LoRA with nobody."""
    await request.app[SHARING].share(
        principal_of(request),
        path_id(request, "lora"),
        everyone=False,
        users=(),
        can_download=False,
    )
    return web.Response(status=204)


ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/loras/{id}/shares",
        shares,
        "Whom a LoRA is shared with",
        answer=SharesView,
        errors=(404,),
    ),
    Route(
        "PUT",
        "/loras/{id}/shares",
        share,
        "Share a LoRA with these people, or everyone, and with nobody else",
        body=ShareOrder,
        answer=SharesView,
        errors=(404, 413),
    ),
    Route(
        "DELETE",
        "/loras/{id}/shares",
        unshare,
        "Share a LoRA with nobody any more",
        status=204,
        errors=(404,),
    ),
)

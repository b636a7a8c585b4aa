"""What the pack inside ComfyUI asks: ``/internal/*``, with the pack token, never forwarded."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from ..errors import AtelierError
from ..http.bodies import read_json, reply
from ..http.errors import error_body
from ..http.keys import asker_of, principal_of
from ..http.routing import Access, Route
from ..loras.models import LoraPin
from .editor import EditorRuns, resolved
from .views import AdmitAnswer, AdmitOrder, AdmittedOrder, EnsureOrder, ResolvedLora

EDITOR = web.AppKey("editor_runs", EditorRuns)

MAX_PROMPT_BYTES = 100 << 20
"""ComfyUI's own limit for a request body."""
ACCOUNTS_HEADER = "X-Atelier-Accounts"
"""``on`` or ``off``, in every answer below ``/internal``, refusals too."""
_BEAT_SECONDS = 0.4


def tell_accounts(
    signs_in: bool,
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """For ``on_response_prepare``: the pack hears whether people sign in here.

    It lets no prompt run without us where they do.
    """

    async def tell(request: web.Request, response: web.StreamResponse) -> None:
        if request.path.startswith("/internal/"):
            response.headers[ACCOUNTS_HEADER] = "on" if signs_in else "off"

    return tell


async def admit(request: web.Request) -> web.Response:
    """Admit a prompt that was posted to ComfyUI."""
    order = await read_json(request, AdmitOrder, max_bytes=MAX_PROMPT_BYTES)
    run_id, body = await request.app[EDITOR].admit(principal_of(request), order.body)
    return reply(AdmitAnswer(run_id=run_id, body=body))


async def admitted(request: web.Request) -> web.Response:
    """Hear what ComfyUI answered."""
    order = await read_json(request, AdmittedOrder, max_bytes=MAX_PROMPT_BYTES)
    await request.app[EDITOR].answered(order)
    return web.Response(status=204)


async def resolve(request: web.Request) -> web.Response:
    """What a LoRA name stands for."""
    order = await read_json(request, EnsureOrder)
    found = await request.app[EDITOR].resolve(asker_of(request), order.prompt_id, order.lora)
    return reply(resolved(found))


async def ensure(request: web.Request) -> web.StreamResponse:
    """Put a LoRA on disk; one JSON object a line: progress, and at last the file or the error."""
    order = await read_json(request, EnsureOrder)
    editor = request.app[EDITOR]
    found = await editor.resolve(asker_of(request), order.prompt_id, order.lora)
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    if not isinstance(found, LoraPin):
        await _line(response, {"lora": resolved(found).model_dump()})
        return response
    done = {"value": 0, "max": found.bytes}
    fetch = asyncio.ensure_future(
        editor.fetch(found, lambda value, top: done.update(value=value, max=top))
    )
    try:
        while not (await asyncio.wait({fetch}, timeout=_BEAT_SECONDS))[0]:
            await _line(response, {"progress": done})
        await _line(response, _outcome(fetch))
    finally:
        fetch.cancel()  # the node was interrupted: nobody waits for the file any more
    return response


def _outcome(fetch: "asyncio.Future[ResolvedLora]") -> dict[str, Any]:
    try:
        return {"lora": fetch.result().model_dump()}
    except AtelierError as error:
        return error_body(error.code, error.message, error.details)


async def _line(response: web.StreamResponse, value: dict[str, Any]) -> None:
    await response.write(json.dumps(value).encode() + b"\n")


ROUTES = (
    Route(
        "POST",
        "/admit",
        admit,
        "Admit a prompt",
        body=AdmitOrder,
        answer=AdmitAnswer,
        scope="runs:write",
    ),
    Route(
        "POST",
        "/admitted",
        admitted,
        "Hear ComfyUI's answer",
        body=AdmittedOrder,
        status=204,
        access=Access.OPEN,
    ),
    Route(
        "POST",
        "/loras/ensure",
        ensure,
        "Fetch a LoRA",
        body=EnsureOrder,
        access=Access.WELCOME,
        scope="loras:read",
    ),
    Route(
        "POST",
        "/loras/resolve",
        resolve,
        "Resolve a LoRA",
        body=EnsureOrder,
        answer=ResolvedLora,
        access=Access.WELCOME,
        scope="loras:read",
    ),
)

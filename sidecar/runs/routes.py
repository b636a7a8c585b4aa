"""Runs over HTTP."""

import json
from contextlib import aclosing
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from ..blobs import BlobStore
from ..errors import InvalidError
from ..http.bodies import path_id, path_number, read_json, read_query, reply
from ..http.files import Download, send_file
from ..http.keys import principal_of
from ..http.routing import BASE, Route
from .models import Event, Run
from .service import Heartbeat, RunService, event_data
from .views import PromptOrder, RunOrder, RunPage, RunQuery, RunView

RUNS = web.AppKey("runs", RunService)
BLOBS = web.AppKey("run_blobs", BlobStore)
MAX_BODY = web.AppKey("max_workflow_bytes", int)

_KEY = "Idempotency-Key"
_KEY_LENGTH = 200
_LAST_ID = "Last-Event-ID"


class EventsQuery(BaseModel):
    """``last_event_id`` is for clients that cannot set the header."""

    model_config = ConfigDict(extra="forbid")

    last_event_id: int = Field(default=0, ge=0, lt=2**31)


async def run_workflow(request: web.Request) -> web.Response:
    """Queue a run of a stored workflow."""
    order = await read_json(request, RunOrder)
    run = await request.app[RUNS].run_workflow(
        principal_of(request), path_id(request, "workflow"), order, _key(request)
    )
    return await _reply(request, run, status=202)


async def run_prompt(request: web.Request) -> web.Response:
    """Queue a run of a graph that is not stored."""
    order = await read_json(request, PromptOrder, max_bytes=request.app[MAX_BODY])
    run = await request.app[RUNS].run_prompt(principal_of(request), order, _key(request))
    return await _reply(request, run, status=202)


async def list_runs(request: web.Request) -> web.Response:
    """A page of runs."""
    page = await request.app[RUNS].page(principal_of(request), read_query(request, RunQuery))
    return reply(RunPage.of(page, BASE))


async def list_workflow_runs(request: web.Request) -> web.Response:
    """A page of a workflow's runs."""
    page = await request.app[RUNS].history_of(
        principal_of(request), path_id(request, "workflow"), read_query(request, RunQuery)
    )
    return reply(RunPage.of(page, BASE))


async def get_run(request: web.Request) -> web.Response:
    """One run."""
    run = await request.app[RUNS].get(principal_of(request), path_id(request, "run"))
    return await _reply(request, run)


async def cancel_run(request: web.Request) -> web.Response:
    """Cancel a run."""
    run = await request.app[RUNS].cancel(principal_of(request), path_id(request, "run"))
    return await _reply(request, run)


async def retry_run(request: web.Request) -> web.Response:
    """Run it again."""
    run = await request.app[RUNS].retry(principal_of(request), path_id(request, "run"))
    return await _reply(request, run, status=202)


async def delete_run(request: web.Request) -> web.Response:
    """Delete a run and its outputs."""
    await request.app[RUNS].delete(principal_of(request), path_id(request, "run"))
    return web.Response(status=204)


async def get_output(request: web.Request) -> web.StreamResponse:
    """The bytes of an output."""
    output = await request.app[RUNS].output(
        principal_of(request), path_id(request, "run"), path_number(request, "output", "index")
    )
    download = Download(
        output.filename, output.content_type, output.bytes, output.sha256, inline=True
    )
    blobs = request.app[BLOBS]
    return await send_file(
        request, download, lambda start, length: blobs.open(output.key, start, length)
    )


async def stream_events(request: web.Request) -> web.StreamResponse:
    """Server-sent events."""
    runs, principal, run_id = request.app[RUNS], principal_of(request), path_id(request, "run")
    after = _last_event_id(request)
    await runs.get(principal, run_id)  # a 404 must come before the stream begins
    headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
    response = web.StreamResponse(headers=headers)
    response.headers["X-Accel-Buffering"] = "no"
    await response.prepare(request)
    async with aclosing(runs.events(principal, run_id, after)) as events:
        async for event in events:
            await response.write(_sent(event))
    await response.write_eof()
    return response


def _sent(event: Event | Heartbeat) -> bytes:
    """As the standard for server-sent events has it; a line that begins with a colon is nothing."""
    if isinstance(event, Heartbeat):
        return b": still here\n\n"
    data = json.dumps(event_data(event), ensure_ascii=False)
    return f"id: {event.seq}\nevent: {event.type}\ndata: {data}\n\n".encode()


def _last_event_id(request: web.Request) -> int:
    asked = read_query(request, EventsQuery).last_event_id
    text = request.headers.get(_LAST_ID)
    if text is None:
        return asked
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise InvalidError(
            "invalid_last_event_id", "Last-Event-ID is the id of an event.", {"field": _LAST_ID}
        )
    return int(text)


def _key(request: web.Request) -> str | None:
    key = request.headers.get(_KEY)
    if key is not None and not (0 < len(key) <= _KEY_LENGTH and key.isprintable()):
        raise InvalidError(
            "invalid_idempotency_key",
            f"An {_KEY} has 1 to {_KEY_LENGTH} printable characters.",
            {"field": _KEY},
        )
    return key


async def _reply(request: web.Request, run: Run, *, status: int = 200) -> web.Response:
    position = await request.app[RUNS].position(run)
    return reply(RunView.of(run, BASE, position), status=status)


_IDEMPOTENT = ((_KEY, "the same key and body answer the same run"),)
_RESUMED: tuple[tuple[str, Any], ...] = ((_LAST_ID, "resumes after this event"),)

ROUTES = (
    Route(
        "POST",
        "/workflows/{id}/run",
        run_workflow,
        "Queue a run of a stored workflow",
        scope="runs:write",
        body=RunOrder,
        headers=_IDEMPOTENT,
        answer=RunView,
        status=202,
        errors=(403, 404, 409, 413, 429, 502, 503, 504),
    ),
    Route(
        "GET",
        "/workflows/{id}/runs",
        list_workflow_runs,
        "A workflow's runs",
        scope="runs:read",
        query=RunQuery,
        answer=RunPage,
    ),
    Route(
        "POST",
        "/runs",
        run_prompt,
        "Queue a run of a graph that is not stored",
        body=PromptOrder,
        headers=_IDEMPOTENT,
        answer=RunView,
        status=202,
        errors=(403, 409, 413, 429, 502, 503, 504),
    ),
    Route("GET", "/runs", list_runs, "Runs, newest first", query=RunQuery, answer=RunPage),
    Route("GET", "/runs/{id}", get_run, "One run", answer=RunView, errors=(404,)),
    Route(
        "GET",
        "/runs/{id}/events",
        stream_events,
        "Follow a run: server-sent events status, progress, node, output, error, done",
        query=EventsQuery,
        headers=_RESUMED,
        content_type="text/event-stream",
        errors=(404,),
    ),
    Route(
        "GET",
        "/runs/{id}/outputs/{index}",
        get_output,
        "The bytes of an output, with Range and ETag",
        also=(206,),
        content_type="application/octet-stream",
        errors=(404, 416, 503),
    ),
    Route(
        "POST",
        "/runs/{id}/cancel",
        cancel_run,
        "Cancel: a queued run at once, a running one by interrupting that prompt only",
        answer=RunView,
        errors=(404, 409),
    ),
    Route(
        "POST",
        "/runs/{id}/retry",
        retry_run,
        "A new run of exactly what this one ran",
        answer=RunView,
        status=202,
        errors=(404, 429, 502, 503, 504),
    ),
    Route(
        "DELETE",
        "/runs/{id}",
        delete_run,
        "Delete a finished run and its outputs",
        status=204,
        errors=(404, 409),
    ),
)

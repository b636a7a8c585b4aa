"""Workflows over HTTP."""

from aiohttp import web

from ..database.pages import PageQuery
from ..http.bodies import path_id, path_number, read_json, read_query, reply
from ..http.keys import principal_of
from ..http.routing import Route
from .models import (
    VersionList,
    VersionQuery,
    WorkflowList,
    WorkflowOrder,
    WorkflowQuery,
    WorkflowReplacement,
    WorkflowView,
)
from .service import WorkflowService

WORKFLOWS = web.AppKey("workflows", WorkflowService)
MAX_WORKFLOW_BYTES = web.AppKey("max_workflow_bytes", int)
"""The largest body with a graph in it."""


async def add(request: web.Request) -> web.Response:
    """Store a workflow."""
    limit = request.app[MAX_WORKFLOW_BYTES]
    order = await read_json(request, WorkflowOrder, max_bytes=limit)
    made = await request.app[WORKFLOWS].add(principal_of(request), order)
    return reply(WorkflowView.of(*made), status=201)


async def page(request: web.Request) -> web.Response:
    """List workflows."""
    asked = read_query(request, WorkflowQuery)
    return reply(WorkflowList.of(await request.app[WORKFLOWS].page(principal_of(request), asked)))


async def get(request: web.Request) -> web.Response:
    """Show a workflow with one of its versions."""
    asked = read_query(request, VersionQuery)
    found = await request.app[WORKFLOWS].get(
        principal_of(request), path_id(request, "workflow"), asked.version
    )
    return reply(WorkflowView.of(*found))


async def replace(request: web.Request) -> web.Response:
    """Replace a workflow."""
    workflow_id = path_id(request, "workflow")
    limit = request.app[MAX_WORKFLOW_BYTES]
    order = await read_json(request, WorkflowReplacement, max_bytes=limit)
    saved = await request.app[WORKFLOWS].replace(principal_of(request), workflow_id, order)
    return reply(WorkflowView.of(*saved))


async def delete(request: web.Request) -> web.Response:
    """Delete a workflow."""
    await request.app[WORKFLOWS].delete(principal_of(request), path_id(request, "workflow"))
    return web.Response(status=204)


async def versions(request: web.Request) -> web.Response:
    """List a workflow's versions."""
    asked = read_query(request, PageQuery)
    found = await request.app[WORKFLOWS].versions(
        principal_of(request), path_id(request, "workflow"), asked
    )
    return reply(VersionList.of(found))


async def restore(request: web.Request) -> web.Response:
    """Make a new head of an old version."""
    restored = await request.app[WORKFLOWS].restore(
        principal_of(request),
        path_id(request, "workflow"),
        path_number(request, "workflow_version", "version"),
    )
    return reply(WorkflowView.of(*restored))


ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        "/workflows",
        add,
        "Store a workflow",
        body=WorkflowOrder,
        answer=WorkflowView,
        status=201,
        errors=(409, 413),
    ),
    Route("GET", "/workflows", page, "List workflows", query=WorkflowQuery, answer=WorkflowList),
    Route(
        "GET",
        "/workflows/{id}",
        get,
        "Show a workflow, with its newest version or another one",
        query=VersionQuery,
        answer=WorkflowView,
        errors=(404,),
    ),
    Route(
        "PUT",
        "/workflows/{id}",
        replace,
        "Replace a workflow; a changed body makes a new version",
        body=WorkflowReplacement,
        answer=WorkflowView,
        errors=(404, 409, 413),
    ),
    Route(
        "DELETE",
        "/workflows/{id}",
        delete,
        "Delete a workflow; its runs stay in history",
        status=204,
        errors=(404,),
    ),
    Route(
        "GET",
        "/workflows/{id}/versions",
        versions,
        "List a workflow's versions, newest first",
        query=PageQuery,
        answer=VersionList,
        errors=(404,),
    ),
    Route(
        "POST",
        "/workflows/{id}/versions/{version}/restore",
        restore,
        "Make a new version of an old one",
        answer=WorkflowView,
        errors=(404,),
    ),
)

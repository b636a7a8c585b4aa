"""A server with the middlewares of the sidecar and whatever routes a test wants."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.typedefs import Handler
from signed_in import everyone_is

from sidecar.http.authentication import pack_only, refuse_other_sites
from sidecar.http.errors import map_errors
from sidecar.http.request_log import tag_requests
from sidecar.http.routing import Route, mount

PACK_TOKEN = "only the pack knows this"
METHODS = ("GET", "POST")

Serve = Callable[[Handler], Awaitable[TestClient]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves a handler at ``/thing``, ``/things/{id}`` and ``/internal/thing``."""
    clients = []

    async def start(handler: Handler) -> TestClient:
        app = web.Application(
            middlewares=[
                tag_requests,
                map_errors,
                refuse_other_sites,
                pack_only(PACK_TOKEN),
                everyone_is(),
            ]
        )
        paths = ("/thing", "/things/{id}", "/internal/thing")
        routes = [Route(each, path, handler, "A thing") for path in paths for each in METHODS]
        mount(app, routes, base="")
        client = TestClient(TestServer(app, host="127.0.0.1"))
        await client.start_server()
        clients.append(client)
        return client

    yield start
    for client in clients:
        await client.close()

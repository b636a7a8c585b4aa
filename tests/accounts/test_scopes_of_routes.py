"""Every route of the API against an API token with its scope, and with every other."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from accounts_room import ANN, BEN, Room, opened_room
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from clock import FakeClock
from databases import sqlite_database

from sidecar.accounts import routes as account_routes
from sidecar.accounts.models import SCOPES
from sidecar.accounts.views import TokenOrder
from sidecar.app import ROUTES
from sidecar.http.routing import BASE, Access, Route, mount

TABLE = tuple(
    {(each.method, each.path): each for each in (*ROUTES, *account_routes.ROUTES)}.values()
)
CLOSED = [route for route in TABLE if route.access in (Access.SIGNED_IN, Access.ADMIN)]

Client = TestClient[web.Request, web.Application]


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


async def reached(_request: web.Request) -> web.Response:
    """Where a request arrives that may."""
    return web.Response(status=299)


@pytest.fixture
async def room(database_file: object, clock: FakeClock) -> AsyncIterator[Room]:
    """Ann is the admin, Ben a member."""
    async with sqlite_database(database_file) as database, opened_room(database, clock) as room:  # type: ignore[arg-type]
        await room.add(ANN)
        await room.add(BEN)
        yield room


@pytest.fixture
async def client(room: Room) -> AsyncIterator[Client]:
    """The whole table behind the real middlewares, each route ending in ``reached``."""
    app = room.app()
    mount(app, [replace(route, handler=reached) for route in TABLE])
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        yield client


async def status(client: Client, route: Route, token: str | None) -> tuple[int, str | None]:
    """What a request without a body comes to: the status, and the code of a refusal."""
    url = BASE + route.path.replace("{id}", "x").replace("{index}", "0").replace("{version}", "1")
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with client.request(route.method, url, headers=headers) as response:
        if response.status == 299:
            return 299, None
        return response.status, (await response.json())["error"]["code"]


async def api_token(room: Room, email: str, scopes: set[str] | frozenset[str]) -> str:
    order = TokenOrder.model_validate({"name": "script", "scopes": sorted(scopes)})
    return (await room.accounts.add_token(await room.principal(email), order))[1]


@pytest.mark.parametrize("route", CLOSED, ids=named)
async def test_a_route_asks_for_its_scope_and_no_other(
    client: Client, room: Room, route: Route
) -> None:
    assert route.needs in SCOPES
    with_it = await api_token(room, ANN, {route.needs})
    without = await api_token(room, ANN, SCOPES - {route.needs})
    assert await status(client, route, with_it) == (299, None)
    assert await status(client, route, without) == (403, "scope_missing")


@pytest.mark.parametrize("route", CLOSED, ids=named)
async def test_a_stranger_reaches_none(client: Client, route: Route) -> None:
    assert await status(client, route, None) == (401, "sign_in_required")


async def test_admins_routes_are_no_members_whatever_the_scopes(client: Client, room: Room) -> None:
    token = await api_token(room, BEN, SCOPES)
    session = await room.token(BEN)
    for route in CLOSED:
        expected = (403, "admins_only") if route.access is Access.ADMIN else (299, None)
        assert await status(client, route, token) == expected, named(route)
        assert await status(client, route, session) == expected, named(route)


def test_nothing_but_signing_in_is_open() -> None:
    """And what the server can do of a protocol, which OPTIONS asks."""
    opened = sorted(route.path for route in TABLE if route not in CLOSED)
    assert opened == ["/auth/login", "/auth/logout", "/auth/refresh", "/uploads"]

"""A body may come long after its headers: who was shut out meanwhile finishes nothing."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import BaseModel

from sidecar.errors import UnauthenticatedError
from sidecar.http import bodies
from sidecar.http.authentication import identify
from sidecar.http.bodies import read_json
from sidecar.http.errors import map_errors
from sidecar.http.keys import asker_of
from sidecar.http.routing import Access, Route, mount
from sidecar.principal import Credentials, Principal, Role

ADMIN = Principal(UUID(int=7), Role.ADMIN)
SHOWN = {"Authorization": "Bearer ats_x"}


class Order(BaseModel):
    """A body to read."""

    name: str


class Door:
    """Lets in whom it is told to, and knows how often it was asked."""

    def __init__(self) -> None:
        self.principal: Principal | None = ADMIN
        self.asked = 0
        self.was_asked = asyncio.Event()

    async def authenticate(self, _shown: Credentials) -> Principal:
        """Who is asking."""
        self.asked += 1
        self.was_asked.set()
        if self.principal is None:
            raise UnauthenticatedError("session_ended", "This session has ended.")
        return self.principal


async def take(request: web.Request) -> web.Response:
    """Answer what was read, and whose it is."""
    order = await read_json(request, Order)
    asker = asker_of(request)
    return web.json_response([order.name, None if asker is None else asker.role.value])


@pytest.fixture
def door() -> Door:
    """Open for an admin."""
    return Door()


@pytest.fixture
async def client(door: Door) -> AsyncIterator[TestClient]:
    """A server with one route for each kind of access."""
    app = web.Application(middlewares=[map_errors, identify(door.authenticate)])
    routes = [Route("POST", f"/{each.name.lower()}", take, "It", access=each) for each in Access]
    mount(app, routes, base="")
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        yield client


class HeldBack:
    """A request whose body waits until it is let go."""

    def __init__(self, client: TestClient, door: Door, path: str, headers: dict[str, str]) -> None:
        self._go = asyncio.Event()
        self._door = door
        self._asking = asyncio.ensure_future(self._ask(client, path, headers))

    async def headers_are_in(self) -> None:
        """Wait until the door has been asked because of them."""
        await self._door.was_asked.wait()

    async def answer(self, *, sent: bool = True) -> tuple[int, object]:
        """Send the body, or do not; the status, and the answer or its code."""
        if sent:
            self._go.set()
        return await self._asking

    async def _body(self) -> AsyncIterator[bytes]:
        yield b"{"
        await self._go.wait()
        yield b'"name": "x"}'

    async def _ask(
        self, client: TestClient, path: str, headers: dict[str, str]
    ) -> tuple[int, object]:
        async with client.post(path, data=self._body(), headers=headers) as response:
            said = await response.json()
            return response.status, said if response.status == 200 else said["error"]["code"]


async def held_back(
    client: TestClient, door: Door, path: str, headers: dict[str, str] = SHOWN
) -> HeldBack:
    request = HeldBack(client, door, path, headers)
    await request.headers_are_in()
    return request


async def test_a_session_that_ended_before_the_body_came_does_nothing(client, door):
    request = await held_back(client, door, "/signed_in")
    door.principal = None
    assert await request.answer() == (401, "session_ended")


async def test_an_admin_who_is_none_when_the_body_comes_does_nothing(client, door):
    request = await held_back(client, door, "/admin")
    door.principal = Principal(ADMIN.id)
    assert await request.answer() == (403, "admins_only")


async def test_a_late_body_is_taken_as_from_whom_its_sender_is_by_then(client, door):
    request = await held_back(client, door, "/signed_in")
    door.principal = Principal(ADMIN.id)
    assert await request.answer() == (200, ["x", "member"])


async def test_where_nobody_needs_to_say_who_asks_what_was_shown_must_still_be_good(client, door):
    request = await held_back(client, door, "/welcome")
    door.principal = None
    assert await request.answer() == (401, "session_ended")


async def test_where_nobody_needs_to_say_who_asks_a_late_body_of_nobody_is_taken(client, door):
    door.principal = None
    request = await held_back(client, door, "/welcome", {})
    assert await request.answer() == (200, ["x", None])


async def test_a_body_that_came_with_its_headers_is_not_asked_about_again(client, door):
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(
        b"POST /signed_in HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer ats_x"
        b'\r\nContent-Length: 13\r\n\r\n{"name": "x"}'
    )
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()
    await writer.wait_closed()
    assert door.asked == 1


async def test_a_small_body_that_does_not_come_is_given_up(client, door, monkeypatch):
    monkeypatch.setattr(bodies, "PATIENCE_SECONDS", 0.05)
    request = await held_back(client, door, "/signed_in")
    assert await request.answer(sent=False) == (400, "broken_body")

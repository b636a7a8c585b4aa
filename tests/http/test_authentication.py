"""Other sites are kept out, and ``/internal`` is the pack's alone."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from sidecar.http.authentication import pack_only
from sidecar.http.errors import map_errors
from sidecar.http.keys import principal_of
from sidecar.principal import LOCAL

PACK_TOKEN = "only the pack knows this"


async def tell_who(request: web.Request) -> web.Response:
    """Answer who is asking."""
    return web.json_response(principal_of(request).folder)


async def test_without_sign_in_everyone_is_the_local_account(serve):
    client = await serve(tell_who)
    async with client.get("/thing") as response:
        assert await response.json() == LOCAL.folder


async def test_a_page_of_this_host_may_ask(serve):
    client = await serve(tell_who)
    origin = f"http://{client.host}:{client.port}"
    async with client.post("/thing", headers={"Origin": origin}) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://evil.example:8190",
        "http://127.0.0.1",
        "null",
        "",
        "http://[",
        "http://\u2100",
        "file://",
    ],
)
async def test_a_page_of_another_site_is_refused(serve, origin):
    client = await serve(tell_who)
    async with client.post("/thing", headers={"Origin": origin}) as response:
        assert response.status == 403
        assert (await response.json())["error"]["code"] == "cross_origin"


async def test_the_pack_is_known_by_its_token(serve):
    client = await serve(tell_who)
    async with client.post("/internal/thing", headers={"X-Atelier-Pack": PACK_TOKEN}) as response:
        assert response.status == 200


@pytest.mark.parametrize("headers", [{}, {"X-Atelier-Pack": ""}, {"X-Atelier-Pack": "guess"}])
async def test_nobody_else_may_ask_what_the_pack_asks(serve, headers):
    client = await serve(tell_who)
    async with client.post("/internal/thing", headers=headers) as response:
        assert response.status == 401
        assert (await response.json())["error"]["code"] == "bad_pack_token"


async def test_a_token_of_odd_bytes_is_refused_like_any_other(serve):
    client = await serve(tell_who)
    headers = {"X-Atelier-Pack": "\udcff\udcfe"}
    async with client.post("/internal/thing", headers=headers) as response:
        assert response.status == 401


@pytest.mark.parametrize(
    "path", ["/internal%2Fthing", "/%69nternal/thing", "/%2Finternal/thing", "/x/../internal/thing"]
)
async def test_no_spelling_of_the_path_gets_around_the_token(serve, path):
    client = await serve(tell_who)
    async with client.post(path) as response:
        assert response.status in (401, 404)


async def test_without_a_pack_there_is_nothing_internal():
    app = web.Application(middlewares=[map_errors, pack_only(None)])
    app.router.add_post("/internal/thing", tell_who)
    async with (
        TestClient(TestServer(app, host="127.0.0.1")) as client,
        client.post("/internal/thing", headers={"X-Atelier-Pack": ""}) as response,
    ):
        assert response.status == 404

"""What passes between ComfyUI's port and the sidecar, and what does not."""

import asyncio
import gzip
import socket

import pytest
from aiohttp import web
from wired_pack import TOKEN, Sidecar, Wired


async def echo_headers(request: web.Request) -> web.Response:
    """The headers as they arrived, lower case."""
    return web.json_response({name.lower(): value for name, value in request.headers.items()})


@pytest.mark.parametrize("prefix", ["/api/v1/comfyui", "/v1/comfyui"])
async def test_both_spellings_reach_the_same_sidecar_route(
    wired: Wired, sidecar: Sidecar, prefix: str
) -> None:
    sidecar.on("/thing", echo_headers)

    response = await wired.client.get(prefix + "/thing")

    assert response.status == 200
    assert sidecar.paths == ["/api/v1/comfyui/thing"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"])
async def test_any_method_passes(wired: Wired, sidecar: Sidecar, method: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=request.method, status=201, reason="Made")

    sidecar.on("/thing", answer)

    response = await wired.client.request(method, "/api/v1/comfyui/thing")

    assert (response.status, response.reason) == (201, "Made")
    assert await response.text() == method


async def test_a_preflight_is_left_to_comfyui(wired: Wired, sidecar: Sidecar) -> None:
    response = await wired.client.options(
        "/api/v1/comfyui/thing", headers={"Access-Control-Request-Method": "POST"}
    )

    assert response.status == 200
    assert sidecar.paths == []


async def test_path_and_query_arrive_as_they_were_written(wired: Wired, sidecar: Sidecar) -> None:
    seen = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.raw_path)
        return web.Response()

    sidecar.on("/a/b c", answer)

    connection = await wired.raw(
        "GET /api/v1/comfyui/a%2Fb%20c?q=%2F+x&e= HTTP/1.1\nHost: h\nConnection: close"
    )

    assert b" 200 " in await connection.head()
    assert seen == ["/api/v1/comfyui/a%2Fb%20c?q=%2F+x&e="]
    await connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/comfyui/../../../internal/admit",
        "/api/v1/comfyui/%2e%2e/%2E%2e/%2e%2e/internal/admit",
        "/api/v1/comfyui/%252e%252e/%252e%252e/internal/admit",
        "/api/v1/comfyui/..%2f..%2f..%2finternal/admit",
        "/api/v1/comfyui/..%5c..%5c..%5cinternal%5cadmit",
        "/v1/comfyui/x/./y",
        "http://elsewhere/api/v1/comfyui/../../../internal/admit",
    ],
)
async def test_no_path_climbs_out_of_the_prefix(wired: Wired, sidecar: Sidecar, path: str) -> None:
    connection = await wired.raw(f"POST {path} HTTP/1.1\nHost: h\nContent-Length: 0")

    assert b" 404 " in await connection.head()
    assert sidecar.paths == []
    await connection.close()


async def test_the_sidecar_learns_host_and_caller_and_none_of_the_callers_claims(
    wired: Wired, sidecar: Sidecar
) -> None:
    sidecar.on("/thing", echo_headers)

    response = await wired.client.get(
        "/api/v1/comfyui/thing",
        headers={
            "Host": "studio.example:8188",
            "Cookie": "a=b; c=d",
            "X-Atelier-Pack": "guess",
            "X-Atelier-Submission": "guess/1",
            "X-Forwarded-For": "10.0.0.1",
            "X-Forwarded-Host": "evil",
            "Forwarded": "for=10.0.0.1",
            "Connection": "keep-alive, X-Hop, Host",
            "X-Hop": "mine",
            "Te": "trailers",
        },
    )

    seen = await response.json()
    assert seen["host"] == "studio.example:8188"
    assert seen["cookie"] == "a=b; c=d"
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-forwarded-proto"] == "http"
    assert seen["x-atelier-pack"] == TOKEN
    assert not {"x-atelier-submission", "x-forwarded-host", "x-hop"} & set(seen)
    assert not {"forwarded", "te"} & set(seen)


async def test_a_sidecar_without_a_token_is_shown_none(wired: Wired, sidecar: Sidecar) -> None:
    wired.address.token = None
    sidecar.on("/thing", echo_headers)

    response = await wired.client.get("/api/v1/comfyui/thing", headers={"X-Atelier-Pack": "guess"})

    assert "x-atelier-pack" not in await response.json()


async def test_an_expectation_that_nobody_knows_is_refused_in_the_documented_shape(
    wired: Wired, sidecar: Sidecar
) -> None:
    response = await wired.client.post(
        "/api/v1/comfyui/thing", data=b"x", headers={"Expect": "a miracle"}
    )

    assert (response.status, response.content_type) == (417, "application/json")
    assert (await response.json())["error"]["code"] == "unknown_expectation"
    assert sidecar.paths == []


async def test_the_answer_comes_as_the_sidecar_wrote_it(wired: Wired, sidecar: Sidecar) -> None:
    packed = gzip.compress(b"hello" * 100)

    async def answer(_request: web.Request) -> web.Response:
        response = web.Response(status=302, body=packed, headers={"Content-Encoding": "gzip"})
        response.headers.update({"Location": "/elsewhere", "ETag": '"x"', "Connection": "X-Hop"})
        response.headers["X-Hop"] = "theirs"
        response.headers.add("Set-Cookie", "a=1")
        response.headers.add("Set-Cookie", "b=2")
        return response

    sidecar.on("/thing", answer)

    response = await wired.client.get("/api/v1/comfyui/thing", allow_redirects=False)

    assert response.status == 302
    assert response.headers.getall("Set-Cookie") == ["a=1", "b=2"]
    assert response.headers["ETag"] == '"x"'
    assert response.headers["Content-Encoding"] == "gzip"
    assert "X-Hop" not in response.headers
    assert await response.read() == packed


async def test_head_tells_the_size_without_the_bytes(wired: Wired, sidecar: Sidecar) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=b"x" * 1234)

    sidecar.on("/thing", answer)

    response = await wired.client.head("/api/v1/comfyui/thing")

    assert response.headers["Content-Length"] == "1234"
    assert await response.read() == b""


async def test_an_answer_without_a_body_stays_one(wired: Wired, sidecar: Sidecar) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=204)

    sidecar.on("/thing", answer)

    response = await wired.client.delete("/api/v1/comfyui/thing")

    assert response.status == 204
    assert await response.read() == b""


async def test_events_arrive_one_by_one(wired: Wired, sidecar: Sidecar) -> None:
    go_on = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: one\n\n")
        await go_on.wait()
        await response.write(b"data: two\n\n")
        return response

    sidecar.on("/events", answer)

    response = await wired.client.get("/api/v1/comfyui/events")

    assert await response.content.readany() == b"data: one\n\n"
    go_on.set()
    assert await response.content.readany() == b"data: two\n\n"


async def test_without_a_sidecar_the_answer_says_so(wired: Wired) -> None:
    wired.address.left()

    response = await wired.client.get("/api/v1/comfyui/loras")

    error = (await response.json())["error"]
    assert response.status == 503
    assert (error["code"], error["details"]) == ("sidecar_unavailable", {"system": "sidecar"})


async def test_a_sidecar_that_does_not_answer_the_door_counts_as_away(wired: Wired) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        wired.address.url = f"http://127.0.0.1:{nobody.getsockname()[1]}"

    response = await wired.client.post("/api/v1/comfyui/loras", data=b"x")

    assert response.status == 503

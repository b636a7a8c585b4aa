"""Every refusal has one shape, a documented status, and tells no more than it should."""

import logging
from collections.abc import Iterator

import aiohttp
import pytest
from aiohttp import web

import sidecar.errors
from sidecar.errors import (
    AtelierError,
    InvalidError,
    NotFoundError,
    QuotaError,
    RangeError,
    UnauthenticatedError,
    UnavailableError,
)
from sidecar.http.errors import STATUS, status_of


def every_error() -> Iterator[type[AtelierError]]:
    """All error classes, of the floor and of the rooms."""
    waiting = [AtelierError]
    while waiting:
        subclasses = waiting.pop().__subclasses__()
        yield from subclasses
        waiting += subclasses


def raising(error: Exception) -> aiohttp.typedefs.Handler:
    async def handler(_request: web.Request) -> web.Response:
        raise error

    return handler


def test_every_error_class_has_a_status():
    unmapped = [kind for kind in every_error() if not set(kind.__mro__) & set(STATUS)]
    assert unmapped == []


def test_the_table_names_no_class_that_is_gone():
    assert all(getattr(sidecar.errors, kind.__name__) is kind for kind in STATUS)


def test_statuses_are_distinct_so_that_a_client_can_tell_them_apart():
    assert len(set(STATUS.values())) == len(STATUS)


def test_a_subclass_without_a_row_has_its_parents_status():
    class TooOddError(InvalidError):
        """Made up here."""

    assert status_of(TooOddError("odd", "Odd.")) == 422


async def test_a_domain_error_is_told_by_code_message_and_details(serve):
    client = await serve(raising(UnavailableError("comfyui", "It is away.", {"since": 5})))
    async with client.get("/thing") as response:
        assert response.status == 503
        assert await response.json() == {
            "error": {
                "code": "comfyui_unavailable",
                "message": "It is away.",
                "details": {"system": "comfyui", "since": 5},
            }
        }


async def test_bad_credentials_are_asked_for(serve):
    client = await serve(raising(UnauthenticatedError("bad_token", "No.")))
    async with client.get("/thing") as response:
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")


async def test_too_many_says_when_to_try_again(serve):
    client = await serve(raising(QuotaError("too_many_runs", "Wait.", {"retry_after": 30})))
    async with client.get("/thing") as response:
        assert (response.status, response.headers["Retry-After"]) == (429, "30")


async def test_a_bad_range_says_how_long_the_file_is(serve):
    client = await serve(raising(RangeError("range_not_satisfiable", "No.", {"size": 7})))
    async with client.get("/thing") as response:
        assert (response.status, response.headers["Content-Range"]) == (416, "bytes */7")


async def test_an_unexpected_error_tells_its_request_id_and_nothing_else(serve, caplog):
    client = await serve(raising(RuntimeError("the password is hunter2")))
    with caplog.at_level(logging.ERROR):
        async with client.get("/thing", headers={"X-Request-ID": "abc-1"}) as response:
            assert response.status == 500
            text = await response.text()
    assert "abc-1" in text
    assert "hunter2" not in text
    assert "hunter2" in caplog.text


async def test_a_path_that_nobody_serves_is_a_json_404(serve):
    client = await serve(raising(NotFoundError("thing")))
    async with client.get("/elsewhere") as response:
        assert response.status == 404
        assert (await response.json())["error"]["code"] == "route_not_found"


async def test_a_method_that_is_not_served_is_a_json_405_that_names_the_others(serve):
    client = await serve(raising(NotFoundError("thing")))
    async with client.delete("/thing") as response:
        assert response.status == 405
        assert "GET" in response.headers["Allow"]
        assert (await response.json())["error"]["code"] == "method_not_allowed"


async def test_an_error_in_the_middle_of_a_stream_cuts_it(serve):
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half of it")
        raise InvalidError("odd", "Odd.")

    client = await serve(half)
    async with client.get("/thing") as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_an_expectation_that_nobody_knows_is_a_json_417(serve):
    client = await serve(raising(NotFoundError("thing")))
    async with client.post("/thing", data=b"x", headers={"Expect": "a miracle"}) as response:
        assert (response.status, response.content_type) == (417, "application/json")
        assert (await response.json())["error"]["code"] == "unknown_expectation"


async def test_who_waits_for_100_continue_gets_it(serve):
    async def length(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    client = await serve(length)
    async with client.post("/thing", data=b"hello", expect100=True) as response:
        assert await response.text() == "5"

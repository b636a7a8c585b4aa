"""Query strings and path parameters."""

from uuid import UUID

import pytest
from aiohttp import web
from pydantic import BaseModel, ConfigDict

from sidecar.http.bodies import path_id, path_number, read_query, reply


class Query(BaseModel):
    """A query to read."""

    model_config = ConfigDict(extra="forbid")

    q: str | None = None
    limit: int = 50


async def echo_query(request: web.Request) -> web.Response:
    """Answer what was read."""
    return reply(read_query(request, Query))


async def tell_id(request: web.Request) -> web.Response:
    """Answer the id in the path."""
    return web.json_response(str(path_id(request, "thing")))


async def tell_number(request: web.Request) -> web.Response:
    """Answer the number in the path."""
    return web.json_response(path_number(request, "thing", "id"))


async def test_a_query_becomes_its_model(serve):
    client = await serve(echo_query)
    async with client.get("/thing?q=a%20b&limit=3") as response:
        assert await response.json() == {"q": "a b", "limit": 3}


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=many", "limit"), ("size=3", "size"), ("q=a&q=b", "q"), ("q=a%00b", "q")],
)
async def test_a_parameter_that_does_not_fit_is_named(serve, query, field):
    client = await serve(echo_query)
    async with client.get(f"/thing?{query}") as response:
        assert response.status == 422
        error = (await response.json())["error"]
        assert (error["code"], set(error["details"]["fields"])) == ("invalid_query", {field})


async def test_an_id_is_a_uuid_in_any_usual_spelling(serve):
    client = await serve(tell_id)
    wanted = UUID("0a1b2c3d-0000-4000-8000-00000000000f")
    async with client.get(f"/things/{str(wanted).upper()}") as response:
        assert await response.json() == str(wanted)


@pytest.mark.parametrize("text", ["5", "x", "..", "%00", "0a1b2c3d", "%ff%fe", "a" * 5000])
async def test_an_id_that_is_no_uuid_names_nothing(serve, text):
    client = await serve(tell_id)
    async with client.get(f"/things/{text}") as response:
        assert response.status == 404


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), (str(2**31 - 1), 2**31 - 1)])
async def test_a_number_in_the_path_is_read(serve, text, number):
    client = await serve(tell_number)
    async with client.get(f"/things/{text}") as response:
        assert await response.json() == number


@pytest.mark.parametrize(
    "text", ["-1", "+1", "1.0", "1e3", "%D9%A1", str(2**31), "9" * 5000, "%20"]
)
async def test_what_is_no_number_names_nothing(serve, text):
    client = await serve(tell_number)
    async with client.get(f"/things/{text}") as response:
        assert response.status == 404
        assert (await response.json())["error"]["code"] == "thing_not_found"

"""Request ids, and the log."""

import json
import logging

import pytest
from aiohttp import web

from sidecar.http.request_log import JsonLines, current_request_id


async def tell_request_id(_request: web.Request) -> web.Response:
    """Answer the id that the log would carry."""
    return web.json_response(current_request_id())


async def test_a_request_has_an_id_in_its_answer_and_in_the_log(serve):
    client = await serve(tell_request_id)
    async with client.get("/thing") as response:
        assert response.headers["X-Request-ID"] == await response.json()


async def test_two_requests_have_different_ids(serve):
    client = await serve(tell_request_id)
    async with client.get("/thing") as one, client.get("/thing") as two:
        assert one.headers["X-Request-ID"] != two.headers["X-Request-ID"]


async def test_a_sane_id_of_the_caller_is_kept(serve):
    client = await serve(tell_request_id)
    async with client.get("/thing", headers={"X-Request-ID": "order-66"}) as response:
        assert response.headers["X-Request-ID"] == "order-66"


@pytest.mark.parametrize("asked", ["", "a b", '"}', "x" * 65, "é"])
async def test_an_id_that_could_spoil_the_log_is_replaced(serve, asked):
    client = await serve(tell_request_id)
    async with client.get("/thing", headers={"X-Request-ID": asked}) as response:
        assert response.headers["X-Request-ID"] != asked


async def test_a_refusal_has_an_id_too(serve):
    client = await serve(tell_request_id)
    async with client.get("/elsewhere") as response:
        assert response.headers["X-Request-ID"]


async def test_each_request_is_one_line_without_its_query(serve, caplog):
    client = await serve(tell_request_id)
    with caplog.at_level(logging.INFO, "sidecar.http.request_log"):
        await (await client.get("/thing?token=hunter2")).read()
    (record,) = [r for r in caplog.records if r.name == "sidecar.http.request_log"]
    line = json.loads(JsonLines().format(record))
    assert (line["event"], line["method"], line["status"]) == ("http.request", "GET", 200)
    assert line["path"] == "/thing"
    assert "hunter2" not in JsonLines().format(record)


@pytest.mark.parametrize("path", ["/a%0Ab", "/a%FFb", "/%ED%A0%80", '/"%7D', "/a%E2%80%A8b"])
async def test_a_hostile_path_stays_within_its_line(serve, caplog, path):
    client = await serve(tell_request_id)
    with caplog.at_level(logging.INFO, "sidecar.http.request_log"):
        await (await client.get(path)).read()
    (record,) = [r for r in caplog.records if r.name == "sidecar.http.request_log"]
    line = JsonLines().format(record)
    assert b"\n" not in line.encode()
    assert json.loads(line)["event"] == "http.request"


def test_an_exception_is_in_the_line_of_its_record():
    error = ValueError("odd\nthing")
    record = logging.LogRecord(
        "x", logging.ERROR, __file__, 1, "broke", None, (type(error), error, None)
    )
    line = JsonLines().format(record)
    assert "\n" not in line
    assert "ValueError: odd" in json.loads(line)["trace"]

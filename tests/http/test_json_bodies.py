"""What a JSON body may be, and what each refusal says."""

import gzip
import io
import json
import tracemalloc
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pydantic import BaseModel, ConfigDict

from sidecar.errors import InvalidError, MalformedError
from sidecar.http.bodies import (
    MAX_JSON_DEPTH,
    MAX_JSON_VALUES,
    MAX_NAMED,
    parse_json,
    read_json,
    reply,
    validated,
)


class Order(BaseModel):
    """A body to read."""

    model_config = ConfigDict(extra="forbid")

    name: str
    count: int = 1


class Anything(BaseModel):
    """A body with room for any JSON."""

    value: Any = None


async def echo_order(request: web.Request) -> web.Response:
    """Answer what was read."""
    return reply(await read_json(request, Order))


async def echo_much(request: web.Request) -> web.Response:
    """The same with room for 10 MiB."""
    return reply(await read_json(request, Anything, max_bytes=10 << 20))


async def echo_little(request: web.Request) -> web.Response:
    """The same with room for 100 bytes."""
    return reply(await read_json(request, Anything, max_bytes=100))


async def error_of(client: TestClient, status: int, **request: Any) -> dict[str, Any]:
    async with client.post("/thing", **request) as response:
        assert response.status == status
        assert response.content_type == "application/json"
        error: dict[str, Any] = (await response.json())["error"]
        assert set(error) == {"code", "message", "details"}
        return error


async def test_a_body_becomes_its_model(serve):
    client = await serve(echo_order)
    async with client.post("/thing", json={"name": "å", "count": 2}) as response:
        assert response.status == 200
        assert await response.json() == {"name": "å", "count": 2}


async def test_json_is_read_whatever_the_content_type_says(serve):
    client = await serve(echo_order)
    async with client.post(
        "/thing", data=b'{"name": "x"}', headers={"Content-Type": "text/plain"}
    ) as response:
        assert response.status == 200


async def test_each_field_that_does_not_fit_is_named(serve):
    client = await serve(echo_order)
    error = await error_of(client, 422, json={"count": "many", "colour": "red"})
    assert error["code"] == "invalid_body"
    assert set(error["details"]["fields"]) == {"name", "count", "colour"}


async def test_what_was_sent_is_not_repeated_in_a_refusal(serve):
    client = await serve(echo_order)
    error = await error_of(client, 422, json={"name": ["hunter2"]})
    assert "hunter2" not in json.dumps(error)


@pytest.mark.parametrize("value", [[], "text", 5, None, True])
async def test_a_body_that_is_no_object_is_refused(serve, value):
    client = await serve(echo_order)
    error = await error_of(client, 422, data=json.dumps(value).encode())
    assert (error["code"], set(error["details"]["fields"])) == ("invalid_body", {"body"})


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"{'name': 'x'}",
        b'{"name": "x",}',
        b"\xff\xfe",
        b'{"name": "\xe9"}',
        b'{"name": NaN}',
        b"[Infinity]",
        b"[-Infinity]",
        b"[1e999]",
        b"[-1e999]",
        b'{"name": "\x00"}',
        b'{"name": "\\u0000"}',
        b'{"name": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"a": [{"b": "\\uD83D and no other half"}]}',
        b"1" * 5000,
    ],
    ids=repr,
)
def test_bytes_that_are_not_json_or_cannot_be_stored_are_malformed(raw):
    with pytest.raises(MalformedError) as refused:
        parse_json(raw)
    assert refused.value.code == "not_json"


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\\\u0000"', "\\u0000"),
        (b'"\\\\ud800"', "\\ud800"),
        (b"1.5e3", 1500.0),
        (b'{"a": 1, "a": 2}', {"a": 2}),
    ],
)
def test_what_only_looks_suspicious_is_read(raw, value):
    assert parse_json(raw) == value


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def test_json_may_nest_as_deep_as_the_limit():
    parse_json(nested(MAX_JSON_DEPTH))


def test_json_that_nests_deeper_is_refused():
    with pytest.raises(InvalidError) as refused:
        parse_json(nested(MAX_JSON_DEPTH + 1))
    assert refused.value.code == "too_deep"
    assert refused.value.details == {"max_depth": MAX_JSON_DEPTH}


def test_a_hundred_thousand_brackets_are_refused_and_not_a_crash():
    with pytest.raises(InvalidError):
        parse_json(b'{"a":' * 100_000)


@pytest.mark.parametrize("depth", [MAX_JSON_DEPTH + 1, 100_000])
def test_the_innermost_of_mixed_lists_and_objects_counts(depth):
    with pytest.raises(InvalidError) as refused:
        parse_json(b'[0,{"x":[],"a":' * (depth // 2) + b"[[0]]" + b"}]" * (depth // 2))
    assert refused.value.code == "too_deep"


@pytest.mark.timeout(10)
@pytest.mark.parametrize("raw", [b'"' + b'\\"' * 300_000, b'"' * 600_000, b"[" + b'""' * 300_000])
def test_a_text_without_an_end_is_refused_without_searching_for_it_again_and_again(raw):
    with pytest.raises(MalformedError):
        parse_json(raw)


def test_a_long_text_takes_little_more_memory_than_itself():
    raw = b'{"text": "' + b"a" * (10 << 20) + b'"}'
    tracemalloc.start()
    try:
        parse_json(raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(raw)


@pytest.mark.parametrize(
    "text", ['[" ' * 1000, '\\"[' * 1000, "[\\" * 1000, "{,:" * MAX_JSON_VALUES]
)
def test_what_stands_in_texts_counts_neither_as_depth_nor_as_values(text):
    assert parse_json(json.dumps({text: text}).encode()) == {text: text}


def test_brackets_behind_a_text_that_ends_in_a_backslash_count():
    with pytest.raises(InvalidError) as refused:
        parse_json(b'["\\\\",' + nested(MAX_JSON_DEPTH) + b"]")
    assert refused.value.code == "too_deep"


@pytest.mark.parametrize(
    "raw",
    [b"[" + b"1," * MAX_JSON_VALUES + b"1]", b"[" + b"[" * MAX_JSON_VALUES, b'"' * 10_000_000],
    ids=["numbers", "lists", "texts"],
)
def test_more_values_than_any_graph_has_are_refused_before_they_are_made(raw):
    tracemalloc.start()
    try:
        with pytest.raises(InvalidError) as refused:
            parse_json(raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.value.code == "too_many_values"
    assert refused.value.details == {"max_values": MAX_JSON_VALUES}
    assert peak < 2 * len(raw) + 10_000


def test_as_many_values_as_are_allowed_are_read():
    assert len(parse_json(b"[" + b"1," * (MAX_JSON_VALUES - 2) + b"1]")) == MAX_JSON_VALUES - 1


def test_a_graph_of_five_thousand_nodes_in_both_formats_is_read():
    slot = {"name": "value", "type": "FLOAT", "link": 1, "widget": {"name": "value"}}
    drawn = {
        "id": 1, "type": "Any", "pos": [0, 0], "size": [1, 1], "flags": {}, "order": 0, "mode": 0,
        "inputs": [slot] * 8, "outputs": [{"name": "x", "type": "X", "links": [1, 2, 3]}] * 3,
        "properties": {"cnr_id": "core", "ver": "0.3.64"}, "widgets_values": list(range(8)),
    }  # fmt: skip
    node = {"class_type": "Any", "inputs": {f"i{i}": ["1", 0] for i in range(8)}, "_meta": {"a": 1}}
    graph = {"nodes": [drawn] * 5000, "links": [[1, 2, 3, 4, 5, "X"]] * 15_000}
    whole = {"workflow_json": {str(i): node for i in range(5000)}, "graph": graph}
    assert parse_json(json.dumps(whole).encode()) == whole


@pytest.mark.timeout(10)
def test_whole_numbers_without_end_are_no_json():
    assert parse_json(b"9" * 400) == int("9" * 400)
    with pytest.raises(MalformedError):
        parse_json(b"[" + (b"9" * 4000 + b",") * 20_000 + b"1]")


@pytest.mark.timeout(10)
def test_a_refusal_names_a_few_of_a_great_many_unknown_fields():
    value = {"name": 5} | {f"{number}-{'x' * 200}": number for number in range(100_000)}
    with pytest.raises(InvalidError) as refused:
        validated(Order, value, "invalid_body")
    fields = refused.value.details["fields"]
    assert len(fields) == MAX_NAMED
    assert "name" in fields
    assert max(map(len, fields)) == 100


async def test_a_body_of_many_megabytes_is_read_as_a_small_one_is(serve):
    client = await serve(echo_much)
    long = io.BytesIO(json.dumps({"value": ["x" * 100] * 20_000}).encode())
    answer = await client.post("/thing", data=long)
    assert await answer.json() == {"value": ["x" * 100] * 20_000}
    assert (await error_of(client, 400, data=io.BytesIO(b" " * 1_000_000)))["code"] == "not_json"
    raw = b'{"value": [' + b"[]," * MAX_JSON_VALUES + b"1]}"
    assert (await error_of(client, 422, data=io.BytesIO(raw)))["code"] == "too_many_values"


async def test_a_body_over_the_limit_is_refused_with_the_limit(serve):
    client = await serve(echo_little)
    error = await error_of(client, 413, json={"value": "x" * 100})
    assert (error["code"], error["details"]) == ("body_too_large", {"max_bytes": 100})


async def test_a_body_over_the_limit_is_refused_without_a_length_too(serve):
    client = await serve(echo_little)

    async def chunks():
        for _ in range(20):
            yield b" " * 10

    assert (await error_of(client, 413, data=chunks()))["code"] == "body_too_large"


async def test_a_small_body_that_unpacks_to_a_large_one_is_refused(serve):
    client = await serve(echo_little)
    packed = gzip.compress(b" " * 10_000_000)
    headers = {"Content-Encoding": "gzip"}
    error = await error_of(client, 413, data=packed, headers=headers)
    assert error["code"] == "body_too_large"


async def test_a_body_that_claims_to_be_packed_and_is_not_is_malformed(serve):
    client = await serve(echo_order)
    headers = {"Content-Encoding": "gzip"}
    error = await error_of(client, 400, data=b"not gzip at all", headers=headers)
    assert error["code"] == "broken_body"


async def test_a_refused_body_after_expect_100_continue_is_still_answered(serve):
    client = await serve(echo_order)
    error = await error_of(client, 400, data=b"not json", expect100=True)
    assert error["code"] == "not_json"

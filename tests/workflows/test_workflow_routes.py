"""Workflows over HTTP: statuses and bodies."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from clock import FakeClock
from sample_graphs import txt2img
from signed_in import middlewares

from sidecar.database import Database
from sidecar.http.routing import BASE, mount
from sidecar.workflows.routes import MAX_WORKFLOW_BYTES, ROUTES, WORKFLOWS
from sidecar.workflows.service import WorkflowService

Client = TestClient[web.Request, web.Application]
MAX_BYTES = 200_000
URL = f"{BASE}/workflows"


@pytest.fixture
async def client(database: Database, clock: FakeClock) -> AsyncIterator[Client]:
    app = web.Application(middlewares=middlewares())
    app[WORKFLOWS] = WorkflowService(database, clock, uuid4)
    app[MAX_WORKFLOW_BYTES] = MAX_BYTES
    mount(app, ROUTES)
    async with TestClient(TestServer(app)) as client:
        yield client


def order(name: str = "cat", **changes: Any) -> dict[str, Any]:
    return {"name": name, "workflow_json": txt2img(), **changes}


async def asked(
    client: Client, method: str, path: str = "", body: Any = None, status: int = 200
) -> Any:
    """The JSON answer, once the status is the one expected."""
    async with client.request(method, URL + path, json=body) as response:
        text = await response.text()
        assert response.status == status, text
        return json.loads(text) if text else None


async def refusal(
    client: Client, method: str, path: str = "", body: Any = None, status: int = 422
) -> dict[str, Any]:
    answer = await asked(client, method, path, body, status)
    error: dict[str, Any] = answer["error"]
    return error


async def test_the_life_of_a_workflow(client: Client) -> None:
    made = await asked(client, "POST", "", order(description="d", tags=["t"]), 201)
    path = f"/{made['id']}"
    assert (made["version"], made["head_version"], made["tags"]) == (1, 1, ["t"])
    assert made["workflow_json"] == txt2img()
    assert (made["graph"], made["inputs"]) == (None, [])
    assert made["created_at"] == "2026-01-01T12:00:00Z"

    changed = txt2img()
    changed["6"]["inputs"]["seed"] = 2
    saved = await asked(client, "PUT", path, order(workflow_json=changed, base_version=1))
    assert saved["version"] == 2
    assert (await asked(client, "GET", path))["workflow_json"] == changed
    assert (await asked(client, "GET", f"{path}?version=1"))["workflow_json"] == txt2img()

    listed = await asked(client, "GET", f"{path}/versions")
    assert [(v["version"], v["note"]) for v in listed["items"]] == [(2, ""), (1, "")]
    assert listed["next_cursor"] is None
    restored = await asked(client, "POST", f"{path}/versions/1/restore")
    assert (restored["version"], restored["workflow_json"]) == (3, txt2img())

    page = await asked(client, "GET", "?q=CAT&limit=1")
    assert [item["id"] for item in page["items"]] == [made["id"]]
    assert "workflow_json" not in page["items"][0]

    await asked(client, "DELETE", path, status=204)
    assert (await refusal(client, "GET", path, status=404))["code"] == "workflow_not_found"
    assert (await asked(client, "GET"))["items"] == []


async def test_a_body_survives_the_journey_to_the_last_digit(client: Client) -> None:
    body = (
        '{"name": "odd", "workflow_json": {"9": {"class_type": "A", "inputs": '
        '{"z": 1180591620717411303424, "a": 1.0, "m": "\\u00e9\\ud83d\\ude00", "b": 1e-07}}}}'
    )
    async with client.post(URL, data=body) as response:
        text = await response.text()
        assert response.status == 201, text
    given, answered = json.loads(body)["workflow_json"], json.loads(text)["workflow_json"]
    assert json.dumps(answered) == json.dumps(given)


async def test_a_body_over_the_limit_is_refused(client: Client) -> None:
    error = await refusal(client, "POST", "", order(description="x" * MAX_BYTES), 413)
    assert (error["code"], error["details"]) == ("body_too_large", {"max_bytes": MAX_BYTES})


async def test_an_endless_body_is_refused_before_it_ends(client: Client) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 50_000_000:
            sent += 1 << 16
            yield b" " * (1 << 16)

    async with client.post(URL, data=endless()) as response:
        assert response.status == 413
    assert sent < 50_000_000


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"not json", 400, "not_json"),
        (b"", 400, "not_json"),
        (b'{"name": NaN}', 400, "not_json"),
        (b"[" * 100_000, 422, "too_deep"),
        (b"[]", 422, "invalid_body"),
    ],
)
async def test_what_is_no_order_at_all_is_refused(
    client: Client, body: bytes, status: int, code: str
) -> None:
    async with client.post(URL, data=body) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": 5}, "name"),
        ({"description": "x" * 10_001}, "description"),
        ({"tags": ["x"] * 51}, "tags"),
        ({"tags": ["x" * 101]}, "tags.0"),
        ({"tags": [""]}, "tags.0"),
        ({"workflow_json": [1]}, "workflow_json"),
        ({"workflow_json": None}, "workflow_json"),
        ({"graph": "x"}, "graph"),
        ({"inputs": [{"name": "p"}]}, "inputs.0.node"),
        ({"owner_id": "x"}, "owner_id"),
        ({"base_version": 1}, "base_version"),
    ],
)
async def test_a_field_that_does_not_fit_is_named(
    client: Client, changes: dict[str, Any], field: str
) -> None:
    error = await refusal(client, "POST", "", order(**changes))
    assert error["code"] == "invalid_body"
    assert field in error["details"]["fields"]


async def test_an_infinite_number_in_disguise_is_refused(client: Client) -> None:
    body = json.dumps(order()).replace('"cfg": 4', '"cfg": 1e999')
    async with client.post(URL, data=body) as response:
        assert response.status in (400, 422)
    assert (await asked(client, "GET"))["items"] == []


async def test_the_editors_own_format_is_refused(client: Client) -> None:
    error = await refusal(client, "POST", "", order(workflow_json={"nodes": [], "links": []}))
    assert error["code"] == "ui_graph"


async def test_conflicts_are_told_as_such(client: Client) -> None:
    made = await asked(client, "POST", "", order(), 201)
    assert (await refusal(client, "POST", "", order(), 409))["code"] == "name_taken"
    stale = await refusal(client, "PUT", f"/{made['id']}", order(base_version=9), 409)
    assert (stale["code"], stale["details"]["head_version"]) == ("stale_version", 1)


@pytest.mark.parametrize("scope", ["shared", "public", "all"])
async def test_scopes_that_do_not_exist_yet_are_refused(client: Client, scope: str) -> None:
    error = await refusal(client, "GET", f"?scope={scope}")
    assert (error["code"], list(error["details"]["fields"])) == ("invalid_query", ["scope"])
    assert "'mine'" in error["details"]["fields"]["scope"]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "cursor=x", "nope=1", "q=", "limit=1&limit=2"]
)
async def test_a_query_that_cannot_be_read_is_refused(client: Client, query: str) -> None:
    await refusal(client, "GET", f"?{query}")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/x"),
        ("DELETE", "/..%2Fx"),
        ("GET", "/x/versions"),
        ("POST", "/x/versions/1/restore"),
        ("POST", "/00000000-0000-4000-8000-000000000009/versions/x/restore"),
        ("POST", "/00000000-0000-4000-8000-000000000009/versions/1/restore"),
        ("DELETE", "/00000000-0000-4000-8000-000000000009"),
    ],
)
async def test_what_names_no_workflow_is_not_found(client: Client, method: str, path: str) -> None:
    assert (await refusal(client, method, path, status=404))["code"].endswith("not_found")

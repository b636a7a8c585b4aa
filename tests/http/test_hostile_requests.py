"""The whole sidecar, without any ComfyUI, against requests that nobody should send."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp.test_utils import TestClient, TestServer
from jsonschema import Draft202012Validator

from sidecar.app import ROUTES, make_app
from sidecar.http.openapi import document
from sidecar.http.routing import BASE, Route
from sidecar.settings import Settings

DESCRIBED = document(ROUTES, "1.2.3")

WORKFLOW: dict[str, Any] = {"1": {"class_type": "SaveImage", "inputs": {}}}

BODIES = (
    b"",
    b"{{{{",
    b"null",
    b"[]",
    b"5",
    b"{}",
    b'{"workflow_json":' * 1000 + b"1" + b"}" * 1000,
    b'{"workflow_json": {"1": 1e999}}',
    b'{"workflow_json": {"1": {"class_type": "X", "inputs": {"a": 1' + b"0" * 400 + b"}}}}",
    b'{"name": "\\u0000", "workflow_json": {}}',
    b'{"name": "\\ud800", "workflow_json": {}}',
    b'{"name": "x", "workflow_json": {}, "admin": true}',
    b'{"name": 5, "workflow_json": "x", "graph": [], "inputs": {}, "input_params": []}',
    b'{"name": "x", "workflow_json": {"1": []}}',
    b"--b\r\nContent-Disposition: form-data; name=file\r\n\r\nx\r\n--b--\r\n",
)

QUERIES = (
    "limit=0",
    "limit=99999999999",
    "limit=x",
    "limit=1&limit=2",
    "cursor=x",
    "cursor=%00",
    "cursor=eyJhIjoxfQ",
    "q=%00",
    "tag=" + "x" * 5000,
    "since=yesterday",
    "last_event_id=-1",
    "version=0",
    "nonsense=1",
)


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[TestClient]:
    """A sidecar whose ComfyUI is away."""
    settings = Settings.model_validate(
        {"ATELIER_DATA_DIR": tmp_path / "data", "COMFYUI_URL": "http://127.0.0.1:9"}
    )
    async with TestClient(TestServer(make_app(settings), host="127.0.0.1")) as client:
        yield client


def answer_fits(route: Route, status: int, content_type: str, text: str) -> None:
    """Hold an answer to the document."""
    operation = DESCRIBED["paths"][BASE + route.path][route.method.lower()]
    assert str(status) in operation["responses"], f"{status} is not documented: {text[:300]}"
    content = operation["responses"][str(status)].get("content")
    if content is None:
        assert text == ""
        return
    assert content_type in content
    if content_type == "application/json":
        schema = {**content[content_type]["schema"], "components": DESCRIBED["components"]}
        Draft202012Validator(schema).validate(json.loads(text))


async def ask(client: TestClient, route: Route, path: str, **request: Any) -> int:
    async with client.request(route.method, BASE + path, **request) as response:
        text = await response.text()
        assert response.status not in (500, 501), text
        answer_fits(route, response.status, response.content_type, text)
        return response.status


def filled(path: str, id_: str, number: str) -> str:
    return path.replace("{id}", id_).replace("{version}", number).replace("{index}", number)


async def test_every_documented_route_is_served_and_answers_as_documented(sidecar):
    for route in ROUTES:
        status = await ask(sidecar, route, filled(route.path, str(uuid4()), "1"))
        assert status != 405, route


async def test_ids_and_numbers_that_are_none_are_404(sidecar):
    for route in ROUTES:
        if "{" not in route.path or route.path == "/workflows/{id}/runs":
            continue
        for id_, number in (("x", "1"), ("%00", "1"), (str(uuid4()), "-1"), ("9" * 300, "%2e%2e")):
            body = {"json": {"name": "x", "workflow_json": WORKFLOW}} if route.body else {}
            status = await ask(sidecar, route, filled(route.path, id_, number), **body)
            # whoever does not speak the upload protocol's version is told that first
            unspoken = (412,) if route.path.startswith("/uploads") else ()
            assert status in (400, 404, 422, *unspoken), (route.method, route.path, id_)


async def test_no_body_is_too_odd_to_be_refused_in_the_documented_shape(sidecar):
    for route in ROUTES:
        takes_nothing = not (route.body or route.form or "{" in route.path)
        if route.method == "GET" or takes_nothing:
            continue
        for body in BODIES:
            for kind in ("application/json", "multipart/form-data; boundary=b", "text/plain"):
                path, headers = filled(route.path, str(uuid4()), "1"), {"Content-Type": kind}
                status = await ask(sidecar, route, path, data=body, headers=headers)
                assert status >= 400, (route.method, route.path, body[:100])


async def test_queries_that_fit_nothing_are_refused(sidecar):
    for route in ROUTES:
        if route.method == "GET" and route.query:
            path = filled(route.path, str(uuid4()), "1")
            for query in QUERIES:
                status = await ask(sidecar, route, f"{path}?{query}")
                assert status in (404, 422), (route.path, query)


async def test_a_sidecar_without_comfyui_is_ready_and_says_that_it_is_away(sidecar):
    async with sidecar.get("/ready") as response:
        assert response.status == 200
        body = await response.json()
    assert body["ready"] is True
    assert "away" in body["comfyui"]
    async with sidecar.get("/health") as response:
        assert (response.status, await response.json()) == (200, {"healthy": True})


async def test_the_document_and_its_page_are_served(sidecar):
    async with sidecar.get(f"{BASE}/openapi.json") as response:
        assert (await response.json())["paths"] == DESCRIBED["paths"]
    async with sidecar.get(f"{BASE}/docs") as response:
        assert response.content_type == "text/html"


async def test_what_is_for_a_pack_or_for_get_alone_is_not_there_otherwise(sidecar):
    async with sidecar.post("/internal/admit", json={"body": {}}) as response:
        assert response.status == 404
    async with sidecar.head(f"{BASE}/runs/{uuid4()}/events") as response:
        assert response.status == 405

"""The OpenAPI document and its page say what the route tables serve."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sidecar.app import ROUTES
from sidecar.http.openapi import document, page
from sidecar.http.routing import BASE, Route

DESCRIBED = document(ROUTES, "1.2.3")


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DESCRIBED["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def each(value: Any, key: str) -> Iterator[Any]:
    """Every value under ``key``, at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key:
                yield inner
            yield from each(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from each(inner, key)


def test_the_document_is_json_of_openapi_3_1():
    assert json.loads(json.dumps(DESCRIBED)) == DESCRIBED
    assert DESCRIBED["openapi"] == "3.1.0"
    assert DESCRIBED["info"]["version"] == "1.2.3"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_in_the_document(route: Route):
    operation = DESCRIBED["paths"][BASE + route.path][route.method.lower()]
    assert operation["summary"] == route.summary
    good = {int(status) for status in operation["responses"] if int(status) < 400}
    assert good == {route.status, *route.also}


def test_the_document_has_nothing_that_is_no_route():
    assert len(list(operations())) == len(ROUTES)


def test_operation_ids_are_unique_so_that_clients_can_be_generated():
    counted = Counter(operation["operationId"] for _, _, operation in operations())
    assert [name for name, times in counted.items() if times > 1] == []


def test_every_schema_is_a_json_schema():
    for schema in DESCRIBED["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for schema in each(DESCRIBED["paths"], "schema"):
        Draft202012Validator.check_schema(schema)


def test_every_reference_leads_somewhere():
    for reference in each(DESCRIBED, "$ref"):
        found: Any = DESCRIBED
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def test_every_parameter_of_a_path_is_described():
    for path, _, operation in operations():
        described = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
        assert described == set(re.findall(r"\{(\w+)\}", path))


def test_no_parameter_is_described_twice():
    for path, method, operation in operations():
        counted = Counter((p["in"], p["name"]) for p in operation["parameters"])
        assert max(counted.values(), default=1) == 1, (method, path)


def test_every_route_that_has_an_id_may_answer_404():
    lacking = [
        route
        for route in ROUTES
        if "{id}" in route.path and 404 not in route.errors and not _is_history(route)
    ]
    assert lacking == []


def _is_history(route: Route) -> bool:
    """The runs of a workflow outlive it: an unknown one has none."""
    return route.path == "/workflows/{id}/runs"


def test_a_route_without_a_body_in_its_answer_has_204_and_the_others_say_what_comes():
    for path, method, operation in operations():
        for status, answer in operation["responses"].items():
            assert ("content" in answer) == (status != "204"), (method, path, status)


def test_the_page_shows_every_route_and_needs_nothing_from_elsewhere():
    shown = page(DESCRIBED)
    for path, _, operation in operations():
        assert path in shown
        assert operation["operationId"]
    assert "http://" not in shown
    assert "https://" not in shown
    assert "<script" not in shown


def test_every_link_of_the_page_has_its_target():
    shown = page(DESCRIBED)
    assert set(re.findall(r"href='#([^']+)'", shown)) <= set(re.findall(r"id='([^']+)'", shown))

"""The OpenAPI 3.1 document, made from the route tables, and a readable page of it."""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

from pydantic import BaseModel, ConfigDict
from pydantic.json_schema import models_json_schema

from .routing import BASE, Part, Route

_PARAMETER = re.compile(r"\{(\w+)\}")
_NUMBERS = ("index", "version", "n")


class ErrorDetail(BaseModel):
    """What went wrong; ``code`` is stable, ``message`` is for people."""

    model_config = ConfigDict(title="ErrorDetail")

    code: str
    message: str
    details: dict[str, Any]


class ErrorBody(BaseModel):
    """The one shape of every refusal."""

    error: ErrorDetail


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """The document of these routes."""
    table = sorted(routes, key=lambda route: route.path)
    schemas = _Schemas(table)
    paths: dict[str, dict[str, Any]] = {}
    for route in table:
        paths.setdefault(BASE + route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Atelier",
            "version": version,
            "description": "Workflows, LoRAs and runs of one ComfyUI studio.",
        },
        "paths": paths,
        "components": {"schemas": schemas.components},
    }


class _Schemas:
    """JSON schemas of every model that the routes name."""

    def __init__(self, routes: Sequence[Route]) -> None:
        bodies = {route.body for route in routes if route.body}
        queries = {route.query for route in routes if route.query}
        answers = {route.answer for route in routes if route.answer} | {ErrorBody}
        inputs: list[Any] = [(model, "validation") for model in bodies | queries]
        outputs: list[Any] = [(model, "serialization") for model in answers]
        self._references, definitions = models_json_schema(
            sorted(inputs + outputs, key=lambda pair: (pair[0].__name__, pair[1])),
            ref_template="#/components/schemas/{model}",
        )
        self.components: dict[str, Any] = definitions["$defs"]

    def reference(self, model: type[BaseModel], mode: str) -> dict[str, Any]:
        """A reference to the schema of a model."""
        return cast("Mapping[Any, dict[str, Any]]", self._references)[(model, mode)]

    def properties(self, model: type[BaseModel]) -> tuple[Mapping[str, Any], Sequence[str]]:
        """Properties of a model, and the names of those that are required."""
        name = self.reference(model, "validation")["$ref"].rpartition("/")[2]
        schema = self.components[name]
        return schema.get("properties", {}), schema.get("required", ())


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    room = route.path.split("/")[1]
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": f"{room}_{route.handler.__name__}",
        "tags": [room],
        "parameters": _parameters(route, schemas),
        "responses": _responses(route, schemas),
    }
    if route.body:
        operation["requestBody"] = _content(
            "application/json", schemas.reference(route.body, "validation")
        ) | {"required": True}
    elif route.form:
        operation["requestBody"] = _content("multipart/form-data", _form(route.form)) | {
            "required": True
        }
    return operation


def _parameters(route: Route, schemas: _Schemas) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in _PARAMETER.findall(route.path):
        schema: dict[str, Any] = {"type": "string", "format": "uuid"}
        if name in _NUMBERS:
            schema = {"type": "integer", "minimum": 0}
        found.append({"name": name, "in": "path", "required": True, "schema": schema})
    if route.query:
        properties, required = schemas.properties(route.query)
        found += [
            {"name": name, "in": "query", "required": name in required, "schema": schema}
            for name, schema in properties.items()
        ]
    found += [
        {"name": name, "in": "header", "schema": {"type": "string"}, "description": note}
        for name, note in route.headers
    ]
    return found


def _responses(route: Route, schemas: _Schemas) -> dict[str, Any]:
    good: dict[str, Any] = {}
    if route.answer:
        good = _content("application/json", schemas.reference(route.answer, "serialization"))
    elif route.status != HTTPStatus.NO_CONTENT:
        good = _content(route.content_type, {})
    refusals = {400, 401, 403, 422, 500, *route.errors}
    bad = _content("application/json", schemas.reference(ErrorBody, "serialization"))
    answers = {
        str(status): {"description": HTTPStatus(status).phrase} | good
        for status in (route.status, *route.also)
    }
    for status in sorted(refusals):
        answers[str(status)] = {"description": HTTPStatus(status).phrase} | bad
    return answers


def _content(media_type: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"content": {media_type: {"schema": dict(schema)}}}


def _form(parts: Sequence[Part]) -> dict[str, Any]:
    properties = {}
    for part in parts:
        schema = {"type": "string", "description": part.note}
        if part.kind == "file":
            schema["contentMediaType"] = "application/octet-stream"
        properties[part.name] = schema
    required = [part.name for part in parts if part.required]
    return {"type": "object", "properties": properties, "required": required}


def page(described: Mapping[str, Any]) -> str:
    """The document as one HTML page that needs nothing from elsewhere."""
    rows = "".join(
        _row(path, method, operation)
        for path, operations in described["paths"].items()
        for method, operation in operations.items()
    )
    schemas = "".join(
        f"<details id='{html.escape(name)}'><summary>{html.escape(name)}</summary>"
        f"<p>{html.escape(schema.get('description', ''))}</p>"
        f"<ul>{''.join(_property(n, s) for n, s in schema.get('properties', {}).items())}</ul>"
        "</details>"
        for name, schema in described["components"]["schemas"].items()
    )
    info = described["info"]
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'>"
        f"<title>{html.escape(info['title'])} API</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(info['title'])} API {html.escape(info['version'])}</h1>"
        f"<p>{html.escape(info['description'])} "
        "The same as a document: <a href='openapi.json'>openapi.json</a>.</p>"
        f"{rows}<h2>Schemas</h2>{schemas}</html>"
    )


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;"
    "color-scheme:light dark}details{border-top:1px solid #8884;padding:.4rem 0}"
    "summary{cursor:pointer}code,b{font-family:ui-monospace,monospace}b{display:inline-block;width:4.5rem}"
)


def _row(path: str, method: str, operation: Mapping[str, Any]) -> str:
    parameters = "".join(
        f"<li><code>{html.escape(p['name'])}</code> in {p['in']}: {_type(p['schema'])}"
        f" {html.escape(p.get('description', ''))}</li>"
        for p in operation["parameters"]
    )
    body = "".join(
        f"<li>body <code>{media}</code>: {_type(content['schema'])}</li>"
        for media, content in operation.get("requestBody", {}).get("content", {}).items()
    )
    answers = "".join(
        f"<li>{status} {html.escape(answer['description'])}"
        + "".join(f": {_type(c['schema'])}" for c in answer.get("content", {}).values())
        + "</li>"
        for status, answer in operation["responses"].items()
    )
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{html.escape(path)}</code> "
        f"{html.escape(operation['summary'])}</summary><ul>{parameters}{body}{answers}</ul></details>"
    )


def _property(name: str, schema: Mapping[str, Any]) -> str:
    return f"<li><code>{html.escape(name)}</code>: {_type(schema)}</li>"


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = html.escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if schema.get("type") == "object" and schema.get("properties"):
        return ", ".join(f"<code>{html.escape(name)}</code>" for name in schema["properties"])
    return html.escape(str(schema.get("format") or schema.get("type") or "any"))

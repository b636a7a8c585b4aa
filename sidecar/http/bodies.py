"""JSON in and out: bodies and queries become pydantic models, models become answers."""

import json
import math
import re
from typing import Any, TypeVar
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, TypeAdapter, ValidationError

from ..errors import InvalidError, MalformedError, NotFoundError, TooLargeError

M = TypeVar("M", bound=BaseModel)

MAX_JSON_BYTES = 1 << 20
MAX_JSON_DEPTH = 200
"""Nested deeper than any real graph; far below what would exhaust the stack when it is written."""

_uuid = TypeAdapter(UUID)
_SUSPECT_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])|\x00")
_SURROGATE = re.compile("[\ud800-\udfff]")


async def read_json(request: web.Request, model: type[M], *, max_bytes: int = MAX_JSON_BYTES) -> M:
    """Read the body as ``model``.

    Raises TooLargeError("body_too_large"), MalformedError("broken_body" or "not_json"),
    InvalidError("too_deep" or "invalid_body").
    """
    raw = await _read_limited(request, max_bytes)
    return validated(model, parse_json(raw), "invalid_body")


def read_query(request: web.Request, model: type[M]) -> M:
    """Read the query string as ``model``. InvalidError("invalid_query")."""
    query = request.query
    wrong = {name: "given twice" for name in query if len(query.getall(name)) > 1}
    wrong |= {name: "holds NUL" for name, value in query.items() if "\0" in name + value}
    if wrong:
        raise InvalidError(
            "invalid_query", "Some parameters cannot be accepted.", {"fields": wrong}
        )
    return validated(model, dict(request.query), "invalid_query")


def path_id(request: web.Request, kind: str, name: str = "id") -> UUID:
    """The UUID in the path. Anything else names nothing: NotFoundError."""
    try:
        return _uuid.validate_strings(request.match_info[name])
    except ValidationError:
        raise NotFoundError(kind) from None


def path_number(request: web.Request, kind: str, name: str) -> int:
    """The number (0 to 2**31 - 1) in the path. Anything else names nothing: NotFoundError."""
    text = request.match_info[name]
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < 2**31):
        raise NotFoundError(kind)
    return int(text)


def reply(answer: BaseModel, *, status: int = 200) -> web.Response:
    """A model as JSON."""
    return web.Response(
        text=answer.model_dump_json(), status=status, content_type="application/json"
    )


def parse_json(raw: bytes) -> Any:
    """JSON as the standard has it, not too deep, without numbers or texts that cannot be stored.

    MalformedError("not_json"), InvalidError("too_deep").
    """
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise MalformedError("not_json", f"The body is not JSON: {type(error).__name__}.") from None
    _check_depth(value)
    if _SUSPECT_ESCAPE.search(raw):
        _check_text(value)
    return value


def validated(model: type[M], value: Any, code: str) -> M:
    """``value`` as ``model``; InvalidError(code) names each field that does not fit."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        fields = {
            ".".join(str(part) for part in problem["loc"]) or "body": problem["msg"]
            for problem in error.errors(include_url=False, include_context=False)
        }
        raise InvalidError(code, "Some fields cannot be accepted.", {"fields": fields}) from None


async def _read_limited(request: web.Request, max_bytes: int) -> bytes:
    too_large = TooLargeError(
        "body_too_large", f"The body may have {max_bytes} bytes.", {"max_bytes": max_bytes}
    )
    if (request.content_length or 0) > max_bytes:
        raise too_large
    parts = bytearray()
    try:
        async for chunk in request.content.iter_chunked(1 << 16):
            parts += chunk
            if len(parts) > max_bytes:
                raise too_large
    except web.RequestPayloadError:
        raise MalformedError("broken_body", "The body cannot be read to its end.") from None
    return bytes(parts)


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _finite(digits: str) -> float:
    """1e999 is good JSON; infinity, which Python makes of it, cannot be written again."""
    number = float(digits)
    if math.isinf(number):
        raise ValueError(digits)
    return number


def _check_depth(value: Any) -> None:
    """Level by level: whatever walks or writes a value later on may do so by recursion."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_JSON_DEPTH):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [item for items in inner for item in items if isinstance(item, dict | list)]
    if level:
        raise _too_deep()


def _too_deep() -> InvalidError:
    return InvalidError(
        "too_deep", f"JSON may nest {MAX_JSON_DEPTH} deep.", {"max_depth": MAX_JSON_DEPTH}
    )


def _check_text(value: Any) -> None:
    """Neither database stores NUL or half a surrogate pair."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack.extend(item)
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, str) and ("\0" in item or _SURROGATE.search(item)):
            raise MalformedError("not_json", "A text holds NUL or half a surrogate pair.")

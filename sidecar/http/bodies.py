"""JSON in and out: bodies and queries become pydantic models, models become answers."""

import asyncio
import json
import math
import re
from array import array
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, TypeVar
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, TypeAdapter, ValidationError

from ..errors import InvalidError, MalformedError, NotFoundError, TooLargeError
from .keys import recheck

M = TypeVar("M", bound=BaseModel)

MAX_JSON_BYTES = 1 << 20
MAX_JSON_DEPTH = 200
"""Nested deeper than any real graph; far below what would exhaust the stack when it is written."""

MAX_JSON_VALUES = 1_000_000
"""A graph of 5,000 nodes, in both of ComfyUI's formats, has half as many."""
MAX_JSON_DIGITS = 400
"""Of a whole number: more than any float has. The time to read it grows with their square."""
MAX_NAMED = 20
"""Fields that one refusal names."""
PATIENCE_SECONDS = 60.0
"""How long a body of ``MAX_JSON_BYTES`` or less may take to arrive."""

_SMALL_BYTES = 256 << 10
"""Read in a few milliseconds. Anything larger is read in a thread: others wait for the loop."""
_NESTING = bytes.maketrans(b"{[}]", b"\x01\x01\xff\xff")
_NO_BRACKETS = bytes(set(range(256)) - set(b"{[}]"))
_uuid = TypeAdapter(UUID)
_SUSPECT_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_SURROGATE = re.compile("[\ud800-\udfff]")


async def read_json(request: web.Request, model: type[M], *, max_bytes: int = MAX_JSON_BYTES) -> M:
    """Read the body as ``model``.

    Raises TooLargeError("body_too_large"), MalformedError("broken_body" or "not_json"),
    InvalidError("too_deep", "too_many_values" or "invalid_body"); of a body that came late also
    what authentication raises.
    """
    raw = await _read_in_time(request, max_bytes)
    await recheck(request)
    if len(raw) <= _SMALL_BYTES:
        return _parsed(model, raw)
    return await asyncio.to_thread(_parsed, model, raw)


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
    """JSON as the standard has it, not too deep or too much, without what cannot be stored.

    MalformedError("not_json"), InvalidError("too_deep" or "too_many_values").
    """
    _check_structure(raw)
    try:
        value = json.loads(
            raw.decode("utf-8"),
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_whole,
        )
    except ValueError as error:
        raise MalformedError("not_json", f"The body is not JSON: {type(error).__name__}.") from None
    if _SUSPECT_ESCAPE.search(raw):
        _check_text(value)
    return value


def validated(model: type[M], value: Any, code: str) -> M:
    """``value`` as ``model``; InvalidError(code) names the fields that do not fit, 20 at most."""
    try:
        return model.model_validate(_without_many_unknown(model, value))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        fields = {
            ".".join(str(part)[:100] for part in problem["loc"]) or "body": problem["msg"]
            for problem in problems[:MAX_NAMED]
        }
        raise InvalidError(code, "Some fields cannot be accepted.", {"fields": fields}) from None


def _parsed(model: type[M], raw: bytes) -> M:
    return validated(model, parse_json(raw), "invalid_body")


def _without_many_unknown(model: type[BaseModel], value: Any) -> Any:
    """Pydantic describes each unknown field, be they a million; so it sees the first ones alone."""
    if model.model_config.get("extra") != "forbid" or not isinstance(value, Mapping):
        return value
    if len(value) <= len(model.model_fields) + MAX_NAMED:
        return value
    known = {field.alias or name for name, field in model.model_fields.items()}
    unknown = [name for name in value if name not in known][:MAX_NAMED]
    return {name: value[name] for name in value if name in known} | {
        name: value[name] for name in unknown
    }


async def _read_in_time(request: web.Request, max_bytes: int) -> bytes:
    length = request.content_length
    small = (max_bytes if length is None else length) <= MAX_JSON_BYTES
    try:
        reading = _read_limited(request, max_bytes)
        return await asyncio.wait_for(reading, PATIENCE_SECONDS if small else None)
    except asyncio.TimeoutError:
        raise MalformedError(
            "broken_body", f"The body has not come within {PATIENCE_SECONDS:g} seconds."
        ) from None


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


def _whole(digits: str) -> int:
    if len(digits) > MAX_JSON_DIGITS:
        raise ValueError(digits[:20])
    return int(digits)


def _finite(digits: str) -> float:
    """1e999 is good JSON; infinity, which Python makes of it, cannot be written again."""
    number = float(digits)
    if math.isinf(number):
        raise ValueError(digits)
    return number


def _check_structure(raw: bytes) -> None:
    """Bound what the parser will make, before it does: each value of a few bytes costs it 60.

    Right up to the first thing that is no JSON, where the parser stops. Only passes that C makes
    over all of it: a loop in Python would take seconds for what is refused here.
    """
    unescaped = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    if unescaped.count(b'"') > 4 * MAX_JSON_VALUES:  # two for each text; a value may have a name
        raise _too_many_values()
    outside_texts = b"".join(unescaped.split(b'"')[::2])
    if sum(outside_texts.count(each) for each in (b",", b"[", b"{")) > MAX_JSON_VALUES:
        raise _too_many_values()
    steps = array("b", outside_texts.translate(_NESTING, _NO_BRACKETS))
    if max(accumulate(steps), default=0) > MAX_JSON_DEPTH:
        raise InvalidError(
            "too_deep", f"JSON may nest {MAX_JSON_DEPTH} deep.", {"max_depth": MAX_JSON_DEPTH}
        )


def _too_many_values() -> InvalidError:
    return InvalidError(
        "too_many_values",
        f"JSON may have {MAX_JSON_VALUES} values.",
        {"max_values": MAX_JSON_VALUES},
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

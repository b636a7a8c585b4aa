"""The one table from domain errors to HTTP statuses, and the middleware that applies it."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.typedefs import Handler

from ..errors import (
    AtelierError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    MalformedError,
    NotFoundError,
    QuotaError,
    RangeError,
    StorageFullError,
    TimedOutError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
    UpstreamError,
)
from .request_log import current_request_id

log = logging.getLogger(__name__)

STATUS: Mapping[type[AtelierError], int] = {
    MalformedError: 400,
    UnauthenticatedError: 401,
    ForbiddenError: 403,
    NotFoundError: 404,
    ConflictError: 409,
    TooLargeError: 413,
    UnsupportedError: 415,
    RangeError: 416,
    InvalidError: 422,
    QuotaError: 429,
    UpstreamError: 502,
    UnavailableError: 503,
    TimedOutError: 504,
    StorageFullError: 507,
}

_ROUTING_CODES = {404: "route_not_found", 405: "method_not_allowed", 413: "body_too_large"}


def status_of(error: AtelierError) -> int:
    """The status of an error, looked up along its classes."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def error_body(code: str, message: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """The one shape of every refusal."""
    return {"error": {"code": code, "message": message, "details": dict(details)}}


def error_response(error: AtelierError) -> web.Response:
    """What the caller gets for a domain error."""
    response = web.json_response(
        error_body(error.code, error.message, error.details), status=status_of(error)
    )
    if isinstance(error, UnauthenticatedError):
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, QuotaError):
        response.headers["Retry-After"] = str(error.details.get("retry_after", 1))
    if isinstance(error, RangeError):
        response.headers["Content-Range"] = f"bytes */{error.details['size']}"
    return response


@web.middleware
async def map_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into the documented shape; an unexpected one tells only its request id."""
    try:
        return await handler(request)
    except AtelierError as error:
        return _unless_streaming(request, error_response(error))
    except web.HTTPException as error:
        if error.status < 400:
            raise
        code = _ROUTING_CODES.get(error.status, "bad_request")
        body = error_body(code, error.reason, {"path": request.path})
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return _unless_streaming(
            request, web.json_response(body, status=error.status, headers=headers)
        )
    except ConnectionResetError:
        raise
    except Exception:
        log.exception("http.unexpected_error")
        body = error_body(
            "internal_error",
            "Something went wrong here; the log has it under this request id.",
            {"request_id": current_request_id()},
        )
        return _unless_streaming(request, web.json_response(body, status=500))


async def expect(request: web.Request) -> None:
    """Say ``100 Continue`` to who waits for it; aiohttp asks this before any middleware.

    HTTP/1.0 has no expectations.
    """
    if request.version < HttpVersion11:
        return
    expected = request.headers.get(hdrs.EXPECT, "")
    if expected.lower() != "100-continue":
        body = error_body("unknown_expectation", f"Nobody here knows Expect: {expected[:100]}.", {})
        raise web.HTTPExpectationFailed(text=json.dumps(body), content_type="application/json")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer itself has not begun


def _unless_streaming(request: web.Request, response: web.Response) -> web.Response:
    """Once bytes have been sent no other answer can be given: cut the connection instead."""
    if request.writer.output_size > 0:
        raise ConnectionResetError("the answer had begun already")
    return response

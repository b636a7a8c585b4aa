"""Request ids, and logs as one JSON object a line that carry them."""

import json
import logging
import re
import time
from contextvars import ContextVar
from datetime import datetime, timezone
from uuid import uuid4

from aiohttp import web
from aiohttp.typedefs import Handler

HEADER = "X-Request-ID"
AUDIT = "sidecar.audit"
"""The logger of what an account must be able to find out about; its lines are always written."""

_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_STANDARD = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

log = logging.getLogger(__name__)


def current_request_id() -> str | None:
    """The id of the request being served, None outside of one."""
    return _request_id.get()


class JsonLines(logging.Formatter):
    """``{"at", "level", "logger", "event", "request_id"?, ...extra, "trace"?}``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, timezone.utc).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if (request_id := current_request_id()) is not None:
            line["request_id"] = request_id
        line.update((k, v) for k, v in record.__dict__.items() if k not in _STANDARD)
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


@web.middleware
async def tag_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every request an id (the caller's, where it is a sane one) and log how it went."""
    asked = request.headers.get(HEADER, "")
    request_id = asked if _SAFE_ID.fullmatch(asked) else uuid4().hex
    token = _request_id.set(request_id)
    began = time.monotonic()
    status = 499  # the client went away before an answer
    try:
        response = await handler(request)
        status = response.status
        if not response.prepared:
            response.headers[HEADER] = request_id
        return response
    finally:
        extra = {
            "method": request.method,
            "path": request.path,
            "status": status,
            "ms": round((time.monotonic() - began) * 1000, 1),
        }
        log.info("http.request", extra=extra)
        _request_id.reset(token)

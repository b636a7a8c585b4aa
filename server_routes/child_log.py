"""The sidecar's log, JSON objects one a line, as lines of ComfyUI's."""

import json
import logging
from collections.abc import Mapping

MAX_CHARACTERS = 4000
"""What is kept of one record."""

_SHOWN_ELSEWHERE = ("at", "level", "logger", "event", "trace")


def level_and_text(line: str) -> tuple[int, str]:
    """What to log of one line of the sidecar's.

    A line that is not one of its JSON records (a traceback at start) is a warning as it stands.
    """
    record = _record(line)
    if record is None:
        return logging.WARNING, line[:MAX_CHARACTERS]
    event = str(record.get("event", ""))
    level = logging.getLevelName(str(record.get("level", "info")).upper())
    level = level if isinstance(level, int) else logging.INFO
    # ComfyUI logs no requests, and its log has room for the last 300 lines only
    if event == "http.request" and level == logging.INFO:
        level = logging.DEBUG
    extras = "".join(f" {k}={v}" for k, v in record.items() if k not in _SHOWN_ELSEWHERE)
    trace = f"\n{record['trace']}" if "trace" in record else ""
    return level, (event + extras + trace)[:MAX_CHARACTERS]


def _record(line: str) -> Mapping[str, object] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and "event" in record else None

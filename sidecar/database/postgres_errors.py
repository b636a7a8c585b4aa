"""What Postgres, the network and the pool say, in our words; decided by SQLSTATE alone.

Codes are those of https://www.postgresql.org/docs/current/errcodes-appendix.html.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from ..errors import AtelierError, StorageFullError, TimedOutError, UnavailableError

READ_ONLY = "25006"
"""A write in a transaction that was to write: the server has become a standby."""
NOT_IN_TIME = "55P03"
"""A lock was not to be had within ``lock_timeout``."""
_DISK_FULL = "53100"
_STATEMENT_TIMEOUT = "57014"
_BUSY = ("40001", "40P01", NOT_IN_TIME, READ_ONLY)
_ENDED = ("25P03", "25P04")
"""The server ended a transaction that took too long as a whole."""
_BROKEN = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.InternalError)
"""Without a code: never reached the server, or what came back made no sense, as when a pooler's
server connection ends in the middle."""
_AWAY = ("08", "53", "57P", "58")
"""Lost, out of something, shutting down or starting, and a disk that fails."""


@contextmanager
def translating() -> Iterator[None]:
    """Raise UnavailableError, TimedOutError or StorageFullError("database") for what is that.

    Our own mistakes stay what they are.
    """
    try:
        yield
    except sa.exc.TimeoutError as error:
        raise UnavailableError(
            "database", "The database has no connection free at the moment."
        ) from error
    except sa.exc.DBAPIError as error:
        translated = _translated(error)
        if translated is None:
            raise
        raise translated from error


def code_of(error: sa.exc.DBAPIError) -> str:
    """SQLSTATE; empty for what never reached the server."""
    return str(getattr(error.orig, "sqlstate", None) or "")


def reason(error: BaseException) -> str:
    """The driver's own first line, for whoever runs the studio: it holds no SQL and no password."""
    told: BaseException | None = error
    while told is not None and not isinstance(told, sa.exc.DBAPIError):
        told = told.__cause__
    lines = str(told.orig if told is not None else error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def _translated(error: sa.exc.DBAPIError) -> AtelierError | None:
    code = code_of(error)
    if code == _DISK_FULL:
        return StorageFullError(
            "disk_full", "The disk of the database is full.", {"system": "database"}
        )
    if code == _STATEMENT_TIMEOUT:
        return TimedOutError("database", "The database took too long.")
    if (
        code in _BUSY
        or code in _ENDED
        or code.startswith(_AWAY)
        or (not code and isinstance(error, _BROKEN))
    ):
        return UnavailableError("database", "The database cannot be used at the moment.")
    return None

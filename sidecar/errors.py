"""Every way in which Atelier says no. Errors carry a stable code; none knows HTTP."""

from collections.abc import Mapping
from typing import Any


class AtelierError(Exception):
    """A refusal that the caller may see.

    ``code`` is stable and machine-readable, ``message`` is for people, ``details`` is JSON.
    None of the three ever holds a secret or a path of the server.
    """

    def __init__(self, code: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details: dict[str, Any] = dict(details or {})


class MalformedError(AtelierError):
    """The bytes could not be read as what they claim to be: not JSON, broken multipart."""


class UnauthenticatedError(AtelierError):
    """No credentials, or bad ones."""


class ForbiddenError(AtelierError):
    """The caller is known and may not do this."""


class NotFoundError(AtelierError):
    """Not there, or not the caller's: the two are indistinguishable."""

    def __init__(self, kind: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(
            f"{kind}_not_found", f"There is no such {kind.replace('_', ' ')}.", details
        )


class RangeError(AtelierError):
    """The range asked for lies outside the file. ``details.size`` is the size in bytes."""


class ConflictError(AtelierError):
    """The present state does not allow it: a name taken, a stale version, a finished run."""


class TooLargeError(AtelierError):
    """More bytes than the limit allows."""


class UnsupportedError(AtelierError):
    """Not a kind of file that is accepted."""


class InvalidError(AtelierError):
    """Understood and refused; ``details`` names each field."""


class QuotaError(AtelierError):
    """Too many at once. ``details.retry_after`` is in seconds."""


class StorageFullError(AtelierError):
    """A quota or the disk has no room for it."""


class UpstreamError(AtelierError):
    """A system behind us answered with something unusable; ``details.system`` names it."""

    def __init__(self, system: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{system}_failed", message, {"system": system, **(details or {})})


class UnavailableError(AtelierError):
    """A system behind us is away; ``details.system`` names it."""

    def __init__(self, system: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{system}_unavailable", message, {"system": system, **(details or {})})


class TimedOutError(AtelierError):
    """A system behind us is too slow; ``details.system`` names it."""

    def __init__(self, system: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{system}_timeout", message, {"system": system, **(details or {})})

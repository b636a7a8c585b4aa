"""Time and ids, handed to whoever needs them so that tests own both."""

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Protocol
from uuid import UUID, uuid4

NewId = Callable[[], UUID]


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> datetime:
        """The current time, aware and in UTC."""


class SystemClock:
    """The computer's own clock."""

    def now(self) -> datetime:
        """The current time, aware and in UTC."""
        return datetime.now(timezone.utc)


def new_id() -> UUID:
    """A random UUID (version 4)."""
    return uuid4()

"""What was looked at, and how it is."""

from dataclasses import dataclass
from enum import Enum


class Level(str, Enum):
    """How it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Finding:
    """One line. ``message`` never holds a secret."""

    level: Level
    subject: str
    message: str


def ok(subject: str, message: str) -> Finding:
    """As it should be."""
    return Finding(Level.OK, subject, message)


def warn(subject: str, message: str) -> Finding:
    """It goes on like this, and somebody should know."""
    return Finding(Level.WARN, subject, message)


def fail(subject: str, message: str) -> Finding:
    """It does not work like this."""
    return Finding(Level.FAIL, subject, message)

"""The settings as they may be shown: where each comes from, and no secret."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from ...settings import Settings

NONE = "none"
SET = "set"
ENVIRONMENT = "environment"
DEFAULT = "default"


@dataclass(frozen=True)
class Shown:
    """One setting."""

    name: str
    value: str
    source: str


def shown(settings: Settings) -> list[Shown]:
    """All of them, in the order in which they are documented."""
    return [
        Shown(
            str(field.alias),
            _value(getattr(settings, name)),
            ENVIRONMENT if name in settings.model_fields_set else DEFAULT,
        )
        for name, field in Settings.model_fields.items()
    ]


def _value(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, SecretStr):
        return SET
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, Path):
        return str(value)
    return without_credentials(str(value))


def without_credentials(text: str) -> str:
    """A URL may carry a user and a password; other text stays as it is."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return text
    if "@" not in parts.netloc:
        return text
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"***@{host}").geturl()

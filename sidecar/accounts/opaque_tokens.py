"""Tokens that mean nothing by themselves: random text, of which only the hash is kept."""

import hashlib
from collections.abc import Callable

from ..principal import Credentials

SESSION = "ats_"
API = "atl_"

Secret = Callable[[], str]
"""Gives 32 random bytes as URL-safe text."""


def sha256_of(token: str) -> str:
    """What is stored of a token: lower-case hex. So much chance needs no salt and no slow hash."""
    # aiohttp turns bytes of a header that are not UTF-8 into lone surrogates
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def session_token_of(shown: Credentials) -> str | None:
    """The session's token among what was shown: the bearer comes before the cookie."""
    if shown.bearer is not None:
        return shown.bearer if shown.bearer.startswith(SESSION) else None
    return cookie_token_of(shown)


def cookie_token_of(shown: Credentials) -> str | None:
    """The session's token that the cookie holds."""
    if shown.cookie is not None and shown.cookie.startswith(SESSION):
        return shown.cookie
    return None

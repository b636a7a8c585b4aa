"""The door to password sign-in through Supabase Auth. The ``supabase`` package is optional."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..errors import InvalidError
from . import PasswordSignIn
from .supabase_tokens import SupabaseTokens

REQUIREMENTS = "requirements-supabase.txt"


@asynccontextmanager
async def connected(
    url: str, publishable_key: str, tokens: SupabaseTokens
) -> AsyncIterator[PasswordSignIn]:
    """Sign-in at the project at ``url``, whose tokens are what ``tokens`` checks.

    Nothing is asked yet. InvalidError("invalid_setting") when the package is not installed.
    """
    try:
        from .supabase_client import SupabaseSignIn  # noqa: PLC0415 - optional, and half a second
    except ImportError as error:
        raise InvalidError(
            "invalid_setting",
            f"ATELIER_AUTH names supabase, but the package {error.name} is missing: "
            f"pip install -r {REQUIREMENTS}",
        ) from error
    sign_in = SupabaseSignIn(url, publishable_key, tokens)
    try:
        yield sign_in
    finally:
        await sign_in.close()

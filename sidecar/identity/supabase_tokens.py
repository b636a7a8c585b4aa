"""Supabase Auth's access tokens, checked here instead of by asking Supabase for each."""

import time
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import aiohttp
import jwt

from ..clock import Clock
from ..errors import InvalidError, UnauthenticatedError
from . import Identity, Provider
from .jwks import JwksCache, Monotonic
from .tokens import Verified, bad_token, email_of, published_key, read_header, verify

SYSTEM = "supabase_auth"
AUDIENCE = "authenticated"
ROLE = "authenticated"
MIN_SECRET_BYTES = 32


@dataclass(frozen=True)
class SupabaseToken:
    """What an access token says, verified."""

    identity: Identity
    expires_at: datetime
    """Aware, UTC."""


class SupabaseTokens:
    """A TokenCheck. ``url`` is the project's; ``secret`` the legacy one, for HS256.

    ES256 and RS256 are checked with the keys that the project publishes, HS256 with the secret
    alone, and not at all without one. InvalidError("invalid_setting") for an unusable secret.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        clock: Clock,
        *,
        secret: str | None = None,
        monotonic: Monotonic = time.monotonic,
    ) -> None:
        self._issuer = f"{url.rstrip('/')}/auth/v1"
        self._clock = clock
        self._secret = None if secret is None else _checked(secret)
        keys_url = f"{self._issuer}/.well-known/jwks.json"
        self._keys = JwksCache(http, keys_url, system=SYSTEM, monotonic=monotonic)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Keep the keys fresh. ``identify`` is to be called inside."""
        return self._keys.running()

    async def identify(self, token: str) -> Identity:
        """See TokenCheck. Also UnauthenticatedError("anonymous_user")."""
        return (await self.verify(token)).identity

    async def verify(self, token: str) -> SupabaseToken:
        """Who the token is about and until when; refuses what ``identify`` refuses."""
        header = read_header(token)
        if header.algorithm == "HS256" and self._secret is not None:
            verified = self._verified(token, self._secret, "HS256")
        else:
            key = await published_key(header, self._keys)
            verified = self._verified(token, key.key, key.algorithm)
        return SupabaseToken(_identity(verified), verified.expires_at)

    def _verified(self, token: str, key: jwt.PyJWK | bytes, algorithm: str) -> Verified:
        now = self._clock.now()
        return verify(token, key, algorithm, issuer=self._issuer, audiences=[AUDIENCE], now=now)


def _identity(verified: Verified) -> Identity:
    claims = verified.claims
    if claims.get("role") != ROLE:
        raise bad_token("role")
    subject = claims.get("sub")
    try:
        user = UUID(subject)
    except (ValueError, TypeError, AttributeError):
        raise bad_token("subject") from None
    if str(user) != subject:
        raise bad_token("subject")
    # Whoever has the publishable key can make any number of them: each would be an account here.
    if claims.get("is_anonymous") not in (None, False):
        raise UnauthenticatedError(
            "anonymous_user", "Anonymous users have no account here; sign in with an e-mail."
        )
    return Identity(Provider.SUPABASE, subject, email_of(claims), verified.refused_from)


def _checked(secret: str) -> bytes:
    key = secret.encode()
    try:
        if len(key) >= MIN_SECRET_BYTES:
            jwt.get_algorithm_by_name("HS256").prepare_key(key)
            return key
    except jwt.InvalidKeyError:  # a public key, which everybody knows
        pass
    raise InvalidError(
        "invalid_setting",
        f"SUPABASE_JWT_SECRET is a secret: expected {MIN_SECRET_BYTES} bytes or more, and no key "
        "in PEM or JWK form.",
    )

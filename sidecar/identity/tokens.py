"""Checking a JWT: what every issuer's tokens must fulfil, whoever the issuer is.

A refusal says in ``details.flaw`` what was wrong, for whoever sets a studio up; it holds nothing of
the token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

import jwt

from ..errors import UnauthenticatedError
from ..principal import normal_email
from .jwks import JwksCache, SigningKey

MAX_TOKEN_BYTES = 8 << 10
LEEWAY_SECONDS = 30
"""How far two clocks may be apart."""
_LATEST = datetime(9999, 1, 1, tzinfo=timezone.utc).timestamp()

Flaw = Literal[
    "form",
    "algorithm",
    "key",
    "signature",
    "claims",
    "issuer",
    "audience",
    "time",
    "not_yet_valid",
    "subject",
    "role",
    "kind",
    "email",
]

# The first that fits; an InvalidSignatureError is a DecodeError too.
_FLAWS: tuple[tuple[type[Exception], Flaw], ...] = (
    (jwt.InvalidSignatureError, "signature"),
    (jwt.InvalidAlgorithmError, "algorithm"),
    (jwt.MissingRequiredClaimError, "claims"),
    (jwt.InvalidIssuerError, "issuer"),
    (jwt.InvalidAudienceError, "audience"),
)


@dataclass(frozen=True)
class Header:
    """What a token says of its signature, unverified. Keys that it brings along are not read."""

    algorithm: str
    kid: str | None


@dataclass(frozen=True)
class Verified:
    """What a token says, now that its signature, issuer, audience and times are in order."""

    claims: Mapping[str, Any]
    expires_at: datetime

    @property
    def refused_from(self) -> datetime:
        """From when on ``verify`` refuses it."""
        return self.expires_at + timedelta(seconds=LEEWAY_SECONDS)


def bad_token(flaw: Flaw) -> UnauthenticatedError:
    """The refusal of a token with this flaw."""
    return UnauthenticatedError("bad_token", "The token is not accepted.", {"flaw": flaw})


def read_header(token: str) -> Header:
    """How a token is signed; UnauthenticatedError("bad_token") when it is none."""
    if len(token) > MAX_TOKEN_BYTES:
        raise bad_token("form")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise bad_token("form") from None
    algorithm, kid = header.get("alg"), header.get("kid")
    # RFC 7515, 4.1.11: an extension that is not understood makes the token invalid
    if "crit" in header or not isinstance(algorithm, str):
        raise bad_token("form")
    return Header(algorithm, kid if isinstance(kid, str) else None)


async def published_key(header: Header, keys: JwksCache) -> SigningKey:
    """The issuer's own key for a token; UnauthenticatedError("bad_token"), UnavailableError.

    Its algorithm, and not the one that the token names, is what the token is to be verified with.
    """
    if header.algorithm not in ("ES256", "RS256"):
        raise bad_token("algorithm")
    key = await keys.key(header.kid) if header.kid else None
    if key is None:
        raise bad_token("key")
    return key


def verify(
    token: str,
    key: jwt.PyJWK | bytes,
    algorithm: str,
    *,
    issuer: str,
    audiences: Sequence[str],
    now: datetime,
) -> Verified:
    """Check signature, issuer, audience and times.

    UnauthenticatedError("token_expired") for a token without any other flaw, else ("bad_token").
    """
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=issuer,
            audience=audiences,
            options={
                "require": ["iss", "aud", "exp", "iat"],
                "verify_sub": False,  # what it may be is for each issuer to say
                # below, by the clock that was handed in
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise bad_token(_flaw_of(error)) from None
    moment = now.timestamp()
    not_before = [_time(claims[name]) for name in ("iat", "nbf") if claims.get(name) is not None]
    if max(not_before) > moment + LEEWAY_SECONDS:
        raise bad_token("not_yet_valid")
    expires = _time(claims["exp"])
    if expires <= moment - LEEWAY_SECONDS:
        raise UnauthenticatedError("token_expired", "The token has expired.")
    return Verified(claims, datetime.fromtimestamp(expires, timezone.utc))


def email_of(claims: Mapping[str, Any]) -> str | None:
    """The ``email`` claim as accounts have it; None when there is none that could be one."""
    email = claims.get("email")
    if not isinstance(email, str):
        return None
    email = normal_email(email)
    return email if "@" in email and len(email) <= 320 and email.isprintable() else None


def _flaw_of(error: Exception) -> Flaw:
    for kind, flaw in _FLAWS:
        if isinstance(error, kind):
            return flaw
    return "form"


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < _LATEST:
        raise bad_token("time")
    return value

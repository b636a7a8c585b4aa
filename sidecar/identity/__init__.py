"""Who others say somebody is: the port to Supabase Auth and Cloudflare Access.

What they say is checked here and becomes an ``Identity``; which account that is, is decided by the
accounts room.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Protocol


class Provider(str, Enum):
    """Who vouches."""

    SUPABASE = "supabase"
    CLOUDFLARE = "cloudflare"


@dataclass(frozen=True)
class Identity:
    """Somebody whom a provider vouches for."""

    provider: Provider
    subject: str
    """The provider's own id: for Supabase a UUID, for Cloudflare the subject or client id."""
    email: str | None
    """Lower case. None: the provider gave none."""
    expires_at: datetime | None = field(default=None, compare=False)
    """From when on the token is refused, aware, UTC. None: not by itself."""


@dataclass(frozen=True)
class Grant:
    """What a password sign-in or a refresh gave."""

    access_token: str
    refresh_token: str
    expires_at: datetime
    """Aware, UTC."""
    identity: Identity


class TokenCheck(Protocol):
    """Checks the tokens of one provider, without asking it for each."""

    async def identify(self, token: str) -> Identity:
        """Who the token is about.

        UnauthenticatedError("token_expired"), ("anonymous_user"), ("service_token_not_mapped"), or
        ("bad_token") for every other flaw, which ``details.flaw`` names; UnavailableError when the
        provider's keys could not be fetched yet.
        """


class PasswordSignIn(Protocol):
    """Signs people in with a password that another system keeps."""

    async def sign_in(self, email: str, password: str) -> Grant:
        """UnauthenticatedError("bad_login"), QuotaError("too_many_logins"), UnavailableError."""

    async def refresh(self, refresh_token: str) -> Grant:
        """UnauthenticatedError("bad_refresh_token") or ("anonymous_user"), QuotaError,
        UnavailableError.
        """

    async def sign_out(self, access_token: str) -> None:
        """End that session there; one that has ended already is no error. UnavailableError."""

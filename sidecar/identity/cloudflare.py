"""The tokens that Cloudflare Access puts on every request (``Cf-Access-Jwt-Assertion``)."""

import re
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from urllib.parse import urlsplit

import aiohttp

from ..clock import Clock
from ..errors import InvalidError, UnauthenticatedError
from . import Identity, Provider
from .jwks import JwksCache, Monotonic
from .tokens import Verified, bad_token, email_of, published_key, read_header, verify

SYSTEM = "cloudflare_access"
DOMAIN = "cloudflareaccess.com"
_TEAM = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class CloudflareTokens:
    """A TokenCheck. The arguments are as the settings of the same names hold them.

    ``team`` is a team's name or URL; ``audiences`` the application's tags, separated by commas;
    ``service_tokens`` says which service tokens come in, and as whom:
    ``<client id>=<email>``, separated by commas. InvalidError("invalid_setting") names a wrong one.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        team: str,
        audiences: str,
        clock: Clock,
        *,
        service_tokens: str | None = None,
        monotonic: Monotonic = time.monotonic,
    ) -> None:
        self.issuer = _issuer(team)
        self._audiences = [tag.strip() for tag in audiences.split(",") if tag.strip()]
        if not self._audiences:
            raise InvalidError("invalid_setting", "CF_ACCESS_AUD is empty: expected a tag.")
        self._services = _services(service_tokens or "")
        self._clock = clock
        keys_url = f"{self.issuer}/cdn-cgi/access/certs"
        self._keys = JwksCache(http, keys_url, system=SYSTEM, monotonic=monotonic)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Keep the keys fresh. ``identify`` is to be called inside."""
        return self._keys.running()

    async def identify(self, token: str) -> Identity:
        """See TokenCheck. The e-mail is always there."""
        key = await published_key(read_header(token), self._keys)
        verified = verify(
            token,
            key.key,
            key.algorithm,
            issuer=self.issuer,
            audiences=self._audiences,
            now=self._clock.now(),
        )
        return self._identity(verified)

    def _identity(self, verified: Verified) -> Identity:
        claims = verified.claims
        # "org" is the token of the team's own domain: it went through no application's policy
        if claims.get("type", "app") != "app":
            raise bad_token("kind")
        subject = claims.get("sub", "")
        if not isinstance(subject, str):
            raise bad_token("subject")
        if not subject:
            return self._service(claims.get("common_name"), verified)
        email = email_of(claims)
        if email is None:
            raise bad_token("email")
        return Identity(Provider.CLOUDFLARE, subject, email, verified.refused_from)

    def _service(self, client_id: object, verified: Verified) -> Identity:
        if not isinstance(client_id, str) or not client_id:
            raise bad_token("subject")
        email = self._services.get(client_id)
        if email is None:
            raise UnauthenticatedError(
                "service_token_not_mapped",
                "This service token is no account here; CF_ACCESS_SERVICE_TOKENS makes it one.",
                {"client_id": client_id},
            )
        return Identity(Provider.CLOUDFLARE, client_id, email, verified.refused_from)


def _issuer(team: str) -> str:
    name = team.strip().rstrip("/").removesuffix(f".{DOMAIN}")
    if _TEAM.fullmatch(name):
        return f"https://{name}.{DOMAIN}"
    try:
        parts = urlsplit(team.strip().rstrip("/"))
        safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
        if safe and parts.hostname and parts.port != 0:
            more = parts.path or parts.query or parts.fragment or parts.username or parts.password
            if not more:
                return f"{parts.scheme}://{parts.netloc.lower()}"
    except ValueError:  # brackets that hold no IPv6 address, a port that is no number
        pass
    raise InvalidError(
        "invalid_setting",
        f"CF_ACCESS_TEAM is {team!r}: expected a team's name or https://<team>.{DOMAIN}.",
    )


def _services(text: str) -> Mapping[str, str]:
    """Client ids and e-mails. An error counts the entry: what is pasted wrongly may be a secret."""
    services: dict[str, str] = {}
    for number, entry in enumerate((part for part in text.split(",") if part.strip()), start=1):
        client_id, _, address = (part.strip() for part in entry.partition("="))
        email = email_of({"email": address})
        if not client_id or email is None or client_id in services:
            raise InvalidError(
                "invalid_setting",
                f"CF_ACCESS_SERVICE_TOKENS: entry {number} is not <client id>=<email>, or its "
                "client id is there twice.",
                {"entry": number},
            )
        services[client_id] = email
    return services

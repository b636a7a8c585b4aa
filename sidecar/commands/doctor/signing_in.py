"""How people sign in, and whether those who vouch for them can be asked."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import aiohttp

from ...clock import SystemClock
from ...errors import AtelierError
from ...identity.cloudflare import CloudflareTokens
from ...identity.jwks import MAX_ANSWER_BYTES, read_keys
from ...outside import open_providers
from ...settings import Settings
from .findings import Finding, fail, ok, warn

SUBJECT = "sign-in"
SUPABASE = "Supabase Auth"
CLOUDFLARE = "Cloudflare Access"
_SECONDS = 10.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class NoKeysError(Exception):
    """Why there are none, as the end of a sentence."""


async def check_sign_in(settings: Settings, admins: int | None) -> list[Finding]:
    """``admins`` is how many there are; None when the database could not be asked."""
    findings = [_ways(settings, admins)]
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    try:
        async with AsyncExitStack() as stack:
            await open_providers(settings, SystemClock(), stack)
    except AtelierError as error:
        findings.append(fail(SUBJECT, error.message))
    async with aiohttp.ClientSession(timeout=timeout) as http:
        if "supabase" in settings.auth and settings.supabase_url is not None:
            has_secret = settings.supabase_jwt_secret is not None
            findings.append(await _supabase(http, settings.supabase_url, has_secret=has_secret))
        if "cloudflare" in settings.auth and settings.cf_access_team is not None:
            findings.append(await _cloudflare(http, settings.cf_access_team))
    return findings


def _ways(settings: Settings, admins: int | None) -> Finding:
    if settings.auth == ("none",):
        if settings.host not in _LOOPBACK:
            return warn(
                SUBJECT,
                f"Nobody signs in, and the sidecar listens on {settings.host}: whoever reaches "
                "it does what they like. Set ATELIER_AUTH.",
            )
        return ok(SUBJECT, "Nobody signs in: everyone is one account.")
    ways = ", ".join(settings.auth)
    if admins == 0:
        return warn(SUBJECT, f"By {ways}; there is no admin: `python -m sidecar users add EMAIL`.")
    known = "" if admins is None else f"; admins: {admins}"
    return ok(SUBJECT, f"By {ways}{known}.")


async def _supabase(http: aiohttp.ClientSession, url: str, *, has_secret: bool) -> Finding:
    try:
        keys = await _keys(http, f"{url.rstrip('/')}/auth/v1/.well-known/jwks.json")
    except NoKeysError as error:
        return fail(SUPABASE, f"Its signing keys cannot be had: {error}.")
    if keys:
        also = ", and HS256 with SUPABASE_JWT_SECRET" if has_secret else ""
        return ok(SUPABASE, f"Signing keys that can be used: {keys}{also}.")
    if has_secret:
        return ok(SUPABASE, "It publishes no keys; tokens are checked with SUPABASE_JWT_SECRET.")
    return fail(
        SUPABASE,
        "It publishes no keys that can be used, so it signs with its legacy secret: "
        "set SUPABASE_JWT_SECRET, or let the project sign with ES256.",
    )


async def _cloudflare(http: aiohttp.ClientSession, team: str) -> Finding:
    try:
        # any tag: only the address of the team is wanted
        issuer = CloudflareTokens(http, team, "any", SystemClock()).issuer
        keys = await _keys(http, f"{issuer}/cdn-cgi/access/certs")
    except AtelierError as error:
        return fail(CLOUDFLARE, error.message)
    except NoKeysError as error:
        return fail(CLOUDFLARE, f"The team's signing keys cannot be had: {error}.")
    if not keys:
        return fail(CLOUDFLARE, "The team publishes no signing key that can be used.")
    return ok(CLOUDFLARE, f"Signing keys that can be used: {keys}.")


async def _keys(http: aiohttp.ClientSession, url: str) -> int:
    """How many keys are published there that can be used. NoKeysError."""
    try:
        async with http.get(url, allow_redirects=False) as response:
            if response.status != 200:
                raise NoKeysError(f"it answered with status {response.status}")
            return len(read_keys(_json(await _body(response))))
    except asyncio.TimeoutError:
        raise NoKeysError(f"it did not answer within {_SECONDS:g} seconds") from None
    except (aiohttp.ClientError, OSError) as error:
        raise NoKeysError(f"it cannot be reached ({type(error).__name__})") from None
    except ValueError:
        raise NoKeysError("what it answered is no set of keys") from None


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(1 << 14):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise NoKeysError("its answer has no end")
    return bytes(body)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError from None

"""Cloudflare Access: whose assertion is believed, and as whom."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from clock import FakeClock
from cloudflare_access import AUDIENCE, TOKEN_SECONDS, CloudflareAccess
from refusals import refusal
from signing_keys import HmacSecret, compact, es256, rs256
from stopwatch import Stopwatch
from supabase_emulator import SupabaseEmulator, User
from suspension import at_once
from troubled_server import Held, hanging_up

from sidecar.errors import InvalidError, UnavailableError
from sidecar.identity import Identity, Provider
from sidecar.identity.cloudflare import CloudflareTokens
from sidecar.identity.tokens import LEEWAY_SECONDS

EMAIL = "Ada@Example.com"
Make = Callable[[CloudflareAccess], str]


def _changed(**changes: Any) -> Make:
    return lambda access: access.user_token(EMAIL, **changes)


def _hmac(secret: bytes) -> Make:
    def forge(access: CloudflareAccess) -> str:
        claims = access.signer.read(access.user_token(EMAIL))
        return HmacSecret(secret).sign(claims, kid="cloudflare")

    return forge


def _unsigned(access: CloudflareAccess) -> str:
    claims = access.signer.read(access.user_token(EMAIL))
    return compact({"alg": "none", "kid": "cloudflare"}, claims, lambda _data: b"")


def _by_a_stranger(access: CloudflareAccess) -> str:
    claims = access.signer.read(access.user_token(EMAIL))
    return rs256("stranger").sign(claims, kid="cloudflare")


FLAWS: dict[str, tuple[Make, str]] = {
    "no token": (lambda _: "", "form"),
    "unsigned": (_unsigned, "algorithm"),
    "a stranger's key under a known id": (_by_a_stranger, "signature"),
    "the public key as a secret": (_hmac(rs256("cloudflare").pem), "algorithm"),
    "another team": (_changed(iss="https://other.cloudflareaccess.com"), "issuer"),
    "no issuer": (_changed(iss=None), "claims"),
    "another application": (_changed(aud=["another tag"]), "audience"),
    "no audience": (_changed(aud=None), "claims"),
    "an empty audience": (_changed(aud=[]), "claims"),
    "no expiry": (_changed(exp=None), "claims"),
    "no time of issue": (_changed(iat=None), "claims"),
    "the token of the whole team": (_changed(type="org"), "kind"),
    "a kind that is no text": (_changed(type=1), "kind"),
    "no subject": (_changed(sub=None), "subject"),
    "an empty subject": (_changed(sub=""), "subject"),
    "a subject that is a number": (_changed(sub=7), "subject"),
    "no e-mail": (_changed(email=None), "email"),
    "an e-mail that is none": (_changed(email="ada"), "email"),
}


@pytest.mark.parametrize(("make", "flaw"), FLAWS.values(), ids=FLAWS.keys())
async def test_a_flawed_assertion_is_refused(
    make: Make, flaw: str, access_tokens: CloudflareTokens, access: CloudflareAccess
) -> None:
    assert await refusal(access_tokens, make(access)) == ("bad_token", flaw)


async def test_an_assertion_tells_whose_it_is(
    access_tokens: CloudflareTokens, access: CloudflareAccess
) -> None:
    identity = await access_tokens.identify(access.user_token(EMAIL, sub="7335d417"))
    assert identity == Identity(Provider.CLOUDFLARE, "7335d417", "ada@example.com")


@pytest.mark.parametrize("audience", [[AUDIENCE], ["second-tag"], ["other", AUDIENCE], AUDIENCE])
async def test_any_of_the_applications_tags_will_do(
    audience: Any, access_tokens: CloudflareTokens, access: CloudflareAccess
) -> None:
    identity = await access_tokens.identify(access.user_token(EMAIL, aud=audience))
    assert identity.email == "ada@example.com"


async def test_an_assertion_without_a_kind_is_an_applications(
    access_tokens: CloudflareTokens, access: CloudflareAccess
) -> None:
    identity = await access_tokens.identify(access.user_token(EMAIL, type=None))
    assert identity.email == "ada@example.com"


async def test_an_elliptic_key_is_good_too(
    access_tokens: CloudflareTokens, access: CloudflareAccess
) -> None:
    access.signer = elliptic = es256("cloudflare-elliptic")
    access.published = [elliptic]
    assert (await access_tokens.identify(access.user_token(EMAIL))).email == "ada@example.com"


async def test_a_mapped_service_token_comes_in_as_its_account(
    access_tokens: CloudflareTokens, access: CloudflareAccess
) -> None:
    identity = await access_tokens.identify(access.service_token("cicd.access"))
    assert identity == Identity(Provider.CLOUDFLARE, "cicd.access", "robot@example.com")


@pytest.mark.parametrize("client_id", ["unknown.access", "cicd", "CICD.access", "cicd.access "])
async def test_a_service_token_that_is_not_mapped_is_told_so(
    client_id: str, access_tokens: CloudflareTokens, access: CloudflareAccess
) -> None:
    token = access.service_token(client_id)
    assert await refusal(access_tokens, token) == ("service_token_not_mapped", None)


async def test_a_service_token_without_a_client_id_is_flawed(
    access_tokens: CloudflareTokens, access: CloudflareAccess
) -> None:
    token = access.service_token("cicd.access", common_name=None)
    assert await refusal(access_tokens, token) == ("bad_token", "subject")


async def test_a_person_does_not_become_a_service_by_a_common_name(
    access_tokens: CloudflareTokens, access: CloudflareAccess
) -> None:
    identity = await access_tokens.identify(access.user_token(EMAIL, common_name="cicd.access"))
    assert identity.email == "ada@example.com"


async def test_an_assertion_expires(
    access_tokens: CloudflareTokens, access: CloudflareAccess, clock: FakeClock
) -> None:
    token = access.user_token(EMAIL)
    clock.tick(TOKEN_SECONDS + LEEWAY_SECONDS - 1)
    assert (await access_tokens.identify(token)).email == "ada@example.com"
    clock.tick(1)
    assert await refusal(access_tokens, token) == ("token_expired", None)


async def test_whoever_an_assertion_was_of_is_somebody_until_it_is_refused(
    access: CloudflareAccess, access_tokens: CloudflareTokens, clock: FakeClock
) -> None:
    identity = await access_tokens.identify(access.user_token(EMAIL))
    assert identity.expires_at == clock.now() + timedelta(seconds=TOKEN_SECONDS + LEEWAY_SECONDS)


async def test_an_assertion_of_the_future_is_refused(
    access_tokens: CloudflareTokens, access: CloudflareAccess, clock: FakeClock
) -> None:
    nbf = int(clock.now().timestamp()) + LEEWAY_SECONDS + 1
    token = access.user_token(EMAIL, nbf=nbf)
    assert await refusal(access_tokens, token) == ("bad_token", "not_yet_valid")


async def test_keys_rotate_without_a_restart(
    access_tokens: CloudflareTokens, access: CloudflareAccess, stopwatch: Stopwatch
) -> None:
    await access_tokens.identify(access.user_token(EMAIL))
    access.signer = rs256("cloudflare-next")
    access.published = [access.signer, *access.published]
    stopwatch.tick(10)
    assert (await access_tokens.identify(access.user_token(EMAIL))).email == "ada@example.com"
    access.signer = access.published[1]  # the previous one stays valid for a week
    assert (await access_tokens.identify(access.user_token(EMAIL))).email == "ada@example.com"


async def test_known_keys_outlast_a_key_server_that_is_slow(
    access_tokens: CloudflareTokens, access: CloudflareAccess, stopwatch: Stopwatch
) -> None:
    token = access.user_token(EMAIL)
    await access_tokens.identify(token)
    held = access.trouble["certs"] = Held()
    stopwatch.tick(600)
    assert at_once(access_tokens.identify(token)).email == "ada@example.com"
    await held.arrived.wait()
    assert at_once(access_tokens.identify(token)).email == "ada@example.com"


async def test_without_any_key_cloudflare_is_named_as_away(
    access_tokens: CloudflareTokens, access: CloudflareAccess
) -> None:
    access.trouble["certs"] = hanging_up
    with pytest.raises(UnavailableError) as away:
        await access_tokens.identify(access.user_token(EMAIL))
    assert away.value.details == {"system": "cloudflare_access"}


async def test_a_token_of_supabase_is_none_of_cloudflare(
    access_tokens: CloudflareTokens, access: CloudflareAccess, supabase: SupabaseEmulator, ada: User
) -> None:
    access.published.append(es256("first"))  # not even when it were the same key
    assert await refusal(access_tokens, supabase.token(ada)) == ("bad_token", "issuer")


@pytest.mark.parametrize(
    ("team", "issuer"),
    [
        ("acme", "https://acme.cloudflareaccess.com"),
        ("acme.cloudflareaccess.com", "https://acme.cloudflareaccess.com"),
        ("https://acme.cloudflareaccess.com", "https://acme.cloudflareaccess.com"),
        ("https://Acme.CloudflareAccess.com/", "https://acme.cloudflareaccess.com"),
        ("https://access.example.com", "https://access.example.com"),
        ("http://127.0.0.1:8123", "http://127.0.0.1:8123"),
    ],
)
async def test_a_team_is_a_name_or_a_url(
    team: str, issuer: str, http: aiohttp.ClientSession, clock: FakeClock
) -> None:
    assert CloudflareTokens(http, team, "tag", clock).issuer == issuer


WRONG: dict[str, tuple[dict[str, str], str]] = {
    "no team": ({"team": " "}, "CF_ACCESS_TEAM"),
    "two words": ({"team": "acme studio"}, "CF_ACCESS_TEAM"),
    "a URL without TLS": ({"team": "http://acme.cloudflareaccess.com"}, "CF_ACCESS_TEAM"),
    "a path": ({"team": "https://acme.cloudflareaccess.com/cdn-cgi"}, "CF_ACCESS_TEAM"),
    "a user": ({"team": "https://acme@evil.example.com"}, "CF_ACCESS_TEAM"),
    "open brackets": ({"team": "https://[::1"}, "CF_ACCESS_TEAM"),
    "another scheme": ({"team": "ftp://acme.cloudflareaccess.com"}, "CF_ACCESS_TEAM"),
    "no tag": ({"audiences": " , "}, "CF_ACCESS_AUD"),
    "no e-mail": ({"service_tokens": "cicd.access"}, "CF_ACCESS_SERVICE_TOKENS"),
    "no client id": ({"service_tokens": "=a@example.com"}, "CF_ACCESS_SERVICE_TOKENS"),
    "no address": ({"service_tokens": "cicd.access=robot"}, "CF_ACCESS_SERVICE_TOKENS"),
    "one client id twice": (
        {"service_tokens": "a=a@example.com,a=b@example.com"},
        "CF_ACCESS_SERVICE_TOKENS",
    ),
}


@pytest.mark.parametrize(("settings", "variable"), WRONG.values(), ids=WRONG.keys())
async def test_a_wrong_setting_is_named(
    settings: dict[str, str], variable: str, http: aiohttp.ClientSession, clock: FakeClock
) -> None:
    arguments: dict[str, Any] = {"team": "acme", "audiences": "tag", **settings}
    with pytest.raises(InvalidError) as refused:
        CloudflareTokens(http, clock=clock, **arguments)
    assert refused.value.code == "invalid_setting"
    assert variable in refused.value.message

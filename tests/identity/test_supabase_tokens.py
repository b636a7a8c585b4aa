"""Supabase's access tokens: what is believed, and every flaw that is not."""

from typing import Any

import aiohttp
import pytest
from clock import FakeClock
from cloudflare_access import CloudflareAccess
from refusals import refusal
from signing_keys import HmacSecret, es256, rs256
from stopwatch import Stopwatch
from supabase_emulator import TOKEN_SECONDS, SupabaseEmulator, User
from suspension import at_once
from troubled_server import Held, answering_json, hanging_up

from sidecar.errors import InvalidError, UnavailableError
from sidecar.identity import Identity, Provider
from sidecar.identity.supabase_tokens import SupabaseTokens
from sidecar.identity.tokens import LEEWAY_SECONDS


async def test_a_token_tells_who_it_is_about(
    tokens: SupabaseTokens, supabase: SupabaseEmulator, ada: User
) -> None:
    identity = await tokens.identify(supabase.token(ada))
    assert identity == Identity(Provider.SUPABASE, ada.id, "ada@example.com")


async def test_tokens_of_all_three_kinds_are_believed(
    legacy_tokens: SupabaseTokens, supabase: SupabaseEmulator, ada: User, legacy: HmacSecret
) -> None:
    elliptic, rsa = es256("first"), rs256("rsa")
    supabase.published = [elliptic, rsa]
    for signer in (elliptic, rsa, legacy):
        supabase.signer = signer
        assert (await legacy_tokens.identify(supabase.token(ada))).subject == ada.id


async def test_the_url_may_end_in_a_slash(
    http: aiohttp.ClientSession, supabase: SupabaseEmulator, clock: FakeClock, ada: User
) -> None:
    tokens = SupabaseTokens(http, f"{supabase.url}/", clock)
    async with tokens.running():
        assert (await tokens.identify(supabase.token(ada))).subject == ada.id


@pytest.mark.parametrize("email", [None, "", 5, "no address", "a@\x00b", "x" * 400 + "@b"])
async def test_a_token_without_an_email_tells_none(
    email: Any, tokens: SupabaseTokens, supabase: SupabaseEmulator, ada: User
) -> None:
    identity = await tokens.identify(supabase.token(ada, email=email))
    assert identity == Identity(Provider.SUPABASE, ada.id, None)


async def test_an_email_among_what_users_write_themselves_does_not_count(
    tokens: SupabaseTokens, supabase: SupabaseEmulator, ada: User
) -> None:
    forged = {"email": "admin@example.com"}
    identity = await tokens.identify(supabase.token(ada, email=None, user_metadata=forged))
    assert identity.email is None


async def test_an_anonymous_user_is_told_so(
    tokens: SupabaseTokens, supabase: SupabaseEmulator
) -> None:
    nobody = supabase.add_user("", "", anonymous=True)
    assert await refusal(tokens, supabase.token(nobody)) == ("anonymous_user", None)


async def test_an_expired_token_is_told_from_a_bad_one(
    tokens: SupabaseTokens, supabase: SupabaseEmulator, ada: User, clock: FakeClock
) -> None:
    token = supabase.token(ada)
    forged = supabase.token(ada, aud="anon")
    clock.tick(TOKEN_SECONDS + LEEWAY_SECONDS)
    assert await refusal(tokens, token) == ("token_expired", None)
    assert await refusal(tokens, forged) == ("bad_token", "audience")


async def test_a_token_ends_when_it_says(
    tokens: SupabaseTokens, supabase: SupabaseEmulator, ada: User, clock: FakeClock
) -> None:
    checked = await tokens.verify(supabase.token(ada))
    assert (checked.expires_at - clock.now()).total_seconds() == TOKEN_SECONDS


async def test_whoever_showed_a_token_is_somebody_until_it_is_refused(
    tokens: SupabaseTokens, supabase: SupabaseEmulator, ada: User, clock: FakeClock
) -> None:
    token = supabase.token(ada)
    ends = (await tokens.identify(token)).expires_at
    assert ends is not None
    clock.tick((ends - clock.now()).total_seconds() - 1)
    await tokens.identify(token)
    clock.tick(1)
    assert await refusal(tokens, token) == ("token_expired", None)


@pytest.mark.parametrize("claim", ["iat", "nbf"])
async def test_clocks_may_be_half_a_minute_apart(
    claim: str, tokens: SupabaseTokens, supabase: SupabaseEmulator, ada: User, clock: FakeClock
) -> None:
    now = int(clock.now().timestamp())
    late = supabase.token(ada, exp=now - LEEWAY_SECONDS + 1)
    early = supabase.token(ada, **{claim: now + LEEWAY_SECONDS})
    too_early = supabase.token(ada, **{claim: now + LEEWAY_SECONDS + 1})
    assert (await tokens.identify(late)).subject == ada.id
    assert (await tokens.identify(early)).subject == ada.id
    assert await refusal(tokens, too_early) == ("bad_token", "not_yet_valid")


async def test_a_new_key_is_believed_and_an_old_one_no_more(
    tokens: SupabaseTokens, supabase: SupabaseEmulator, ada: User, stopwatch: Stopwatch
) -> None:
    old = supabase.token(ada)
    assert (await tokens.identify(old)).subject == ada.id
    supabase.signer = second = rs256("second")
    supabase.published = [second]
    stopwatch.tick(10)
    assert (await tokens.identify(supabase.token(ada))).subject == ada.id
    assert await refusal(tokens, old) == ("bad_token", "key")


async def test_a_secret_in_the_key_set_signs_nothing(
    tokens: SupabaseTokens, supabase: SupabaseEmulator, ada: User
) -> None:
    entry = {"kid": "secret", "kty": "oct", "alg": "HS256", "k": "YSBzZWNyZXQ"}
    supabase.trouble["jwks"] = answering_json({"keys": [entry]})
    token = HmacSecret(b"a secret").sign(supabase.claims(ada), kid="secret")
    assert await refusal(tokens, token) == ("bad_token", "algorithm")


async def test_a_legacy_token_needs_the_secret_to_be_configured(
    tokens: SupabaseTokens, supabase: SupabaseEmulator, ada: User, legacy: HmacSecret
) -> None:
    token = legacy.sign(supabase.claims(ada))
    assert await refusal(tokens, token) == ("bad_token", "algorithm")


@pytest.mark.parametrize("secret", ["short", es256("first").pem.decode(), "ü" * 15 + "x"])
async def test_a_secret_that_protects_nothing_is_refused(
    secret: str, http: aiohttp.ClientSession, clock: FakeClock
) -> None:
    with pytest.raises(InvalidError) as refused:
        SupabaseTokens(http, "http://127.0.0.1:9", clock, secret=secret)
    assert refused.value.code == "invalid_setting"
    assert "SUPABASE_JWT_SECRET" in refused.value.message
    assert secret not in refused.value.message


async def test_tokens_are_checked_while_the_key_server_is_slow(
    tokens: SupabaseTokens, supabase: SupabaseEmulator, ada: User, stopwatch: Stopwatch
) -> None:
    token = supabase.token(ada)
    await tokens.identify(token)
    held = supabase.trouble["jwks"] = Held()
    stopwatch.tick(600)
    assert at_once(tokens.identify(token)).subject == ada.id
    await held.arrived.wait()
    assert at_once(tokens.identify(token)).subject == ada.id


async def test_tokens_are_checked_while_the_key_server_is_down(
    tokens: SupabaseTokens, supabase: SupabaseEmulator, ada: User, stopwatch: Stopwatch
) -> None:
    token = supabase.token(ada)
    await tokens.identify(token)
    supabase.trouble["jwks"] = hanging_up
    stopwatch.tick(3599)
    assert (await tokens.identify(token)).subject == ada.id
    with pytest.raises(UnavailableError):
        await tokens.identify(es256("new").sign(supabase.claims(ada)))


async def test_without_any_key_supabase_is_named_as_away(
    http: aiohttp.ClientSession,
    supabase: SupabaseEmulator,
    clock: FakeClock,
    ada: User,
    legacy: HmacSecret,
) -> None:
    supabase.trouble["jwks"] = hanging_up
    tokens = SupabaseTokens(http, supabase.url, clock, secret=legacy.secret.decode())
    async with tokens.running():
        with pytest.raises(UnavailableError) as away:
            await tokens.identify(supabase.token(ada))
        by_secret = await tokens.identify(legacy.sign(supabase.claims(ada)))
    assert away.value.details == {"system": "supabase_auth"}
    assert by_secret.subject == ada.id


async def test_a_token_of_cloudflare_is_none_of_supabase(
    tokens: SupabaseTokens, access: CloudflareAccess, supabase: SupabaseEmulator
) -> None:
    supabase.published.append(access.signer)  # not even when it were the same key
    token = access.user_token("ada@example.com")
    assert await refusal(tokens, token) == ("bad_token", "issuer")

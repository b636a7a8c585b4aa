"""Signing in with the real ``supabase`` client, against the emulator of Supabase Auth."""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from clock import FakeClock
from supabase_emulator import TOKEN_SECONDS, SupabaseEmulator, User

from sidecar.errors import InvalidError, UnauthenticatedError
from sidecar.identity import Identity, PasswordSignIn, Provider
from sidecar.identity.supabase import connected
from sidecar.identity.supabase_tokens import SupabaseTokens

EMULATOR = Path(__file__).parents[1] / "fakes" / "supabase_emulator.py"


@pytest.fixture
async def sign_in(
    supabase: SupabaseEmulator, tokens: SupabaseTokens
) -> AsyncIterator[PasswordSignIn]:
    """Sign-in at that project."""
    async with connected(supabase.url, supabase.anon_key, tokens) as opened:
        yield opened


async def _code(refused: object) -> str:
    with pytest.raises(UnauthenticatedError) as error:
        await refused  # type: ignore[misc]
    assert error.value.details == {}
    return error.value.code


async def test_a_sign_in_gives_tokens_that_are_checked(
    sign_in: PasswordSignIn, tokens: SupabaseTokens, ada: User, clock: FakeClock
) -> None:
    grant = await sign_in.sign_in("ada@example.com", "correct horse")
    assert grant.identity == Identity(Provider.SUPABASE, ada.id, "ada@example.com")
    assert await tokens.identify(grant.access_token) == grant.identity
    assert (grant.expires_at - clock.now()).total_seconds() == TOKEN_SECONDS


async def test_nobody_can_tell_which_accounts_exist(
    sign_in: PasswordSignIn, supabase: SupabaseEmulator, ada: User
) -> None:
    supabase.add_user("banned@example.com", "right", banned=True)
    supabase.add_user("unconfirmed@example.com", "right", confirmed=False)
    refusals = []
    for email, password in [
        (ada.email, "wrong"),
        ("nobody@example.com", "wrong"),
        ("banned@example.com", "right"),
        ("unconfirmed@example.com", "right"),
        ("", "right"),
        (ada.email, ""),
        (ada.email, "half a surrogate \ud800"),
        ("\ud800@example.com", "right"),
    ]:
        with pytest.raises(UnauthenticatedError) as refused:
            await sign_in.sign_in(email, password)
        refusals.append((refused.value.code, refused.value.message, str(refused.value.details)))
    assert len(set(refusals)) == 1
    assert refusals[0][0] == "bad_login"


async def test_a_refresh_token_is_good_for_one_refresh(
    sign_in: PasswordSignIn, ada: User, clock: FakeClock
) -> None:
    first = await sign_in.sign_in(ada.email, ada.password)
    clock.tick(TOKEN_SECONDS + 60)
    second = await sign_in.refresh(first.refresh_token)
    assert second.identity == first.identity
    assert second.access_token != first.access_token
    assert second.refresh_token != first.refresh_token
    assert await _code(sign_in.refresh(first.refresh_token)) == "bad_refresh_token"
    assert await _code(sign_in.refresh(second.refresh_token)) == "bad_refresh_token"


@pytest.mark.parametrize("token", ["", "made-up", "\ud800", "a\r\nb", "é", "x" * 10_000])
async def test_a_made_up_refresh_token_is_refused(sign_in: PasswordSignIn, token: str) -> None:
    assert await _code(sign_in.refresh(token)) == "bad_refresh_token"


async def test_signing_out_ends_that_session_alone(sign_in: PasswordSignIn, ada: User) -> None:
    here = await sign_in.sign_in(ada.email, ada.password)
    there = await sign_in.sign_in(ada.email, ada.password)
    await sign_in.sign_out(here.access_token)
    assert await _code(sign_in.refresh(here.refresh_token)) == "bad_refresh_token"
    assert (await sign_in.refresh(there.refresh_token)).identity == here.identity


async def test_signing_out_twice_is_no_error(
    sign_in: PasswordSignIn, supabase: SupabaseEmulator, ada: User
) -> None:
    grant = await sign_in.sign_in(ada.email, ada.password)
    await sign_in.sign_out(grant.access_token)
    await sign_in.sign_out(grant.access_token)
    assert supabase.asked["logout"] == 2


@pytest.mark.parametrize("token", ["", "made-up", "\ud800", "a\r\nApikey: b", "é"])
async def test_signing_out_with_a_made_up_token_is_no_error(
    sign_in: PasswordSignIn, token: str
) -> None:
    await sign_in.sign_out(token)


async def test_signing_out_of_an_expired_or_deleted_session_is_no_error(
    sign_in: PasswordSignIn, supabase: SupabaseEmulator, ada: User, clock: FakeClock
) -> None:
    expired = await sign_in.sign_in(ada.email, ada.password)
    clock.tick(TOKEN_SECONDS)
    await sign_in.sign_out(expired.access_token)
    deleted = await sign_in.sign_in(ada.email, ada.password)
    supabase.delete_user(ada)
    await sign_in.sign_out(deleted.access_token)


async def test_a_user_deleted_at_supabase_gets_no_new_token(
    sign_in: PasswordSignIn, tokens: SupabaseTokens, supabase: SupabaseEmulator, ada: User
) -> None:
    grant = await sign_in.sign_in(ada.email, ada.password)
    supabase.delete_user(ada)
    assert await _code(sign_in.refresh(grant.refresh_token)) == "bad_refresh_token"
    assert await _code(sign_in.sign_in(ada.email, ada.password)) == "bad_login"
    # what was given out stays good until it expires: only our own account can be disabled at once
    assert await tokens.identify(grant.access_token) == grant.identity


async def test_a_user_banned_at_supabase_gets_no_new_token(
    sign_in: PasswordSignIn, ada: User
) -> None:
    grant = await sign_in.sign_in(ada.email, ada.password)
    ada.banned = True
    assert await _code(sign_in.refresh(grant.refresh_token)) == "bad_refresh_token"


async def test_an_anonymous_session_is_not_refreshed_into_an_account(
    sign_in: PasswordSignIn, supabase: SupabaseEmulator
) -> None:
    session = supabase.begin_session(supabase.add_user("", "", anonymous=True))
    assert await _code(sign_in.refresh(session["refresh_token"])) == "anonymous_user"


async def test_people_who_sign_in_at_once_are_kept_apart(
    sign_in: PasswordSignIn, supabase: SupabaseEmulator
) -> None:
    users = [supabase.add_user(f"user{n}@example.com", f"password {n}") for n in range(4)] * 5
    grants = await asyncio.gather(*(sign_in.sign_in(one.email, one.password) for one in users))
    assert [grant.identity.subject for grant in grants] == [one.id for one in users]
    again = await asyncio.gather(*(sign_in.refresh(grant.refresh_token) for grant in grants))
    assert [grant.identity.subject for grant in again] == [one.id for one in users]


async def test_nothing_of_one_persons_sign_in_is_sent_with_the_next(
    sign_in: PasswordSignIn, supabase: SupabaseEmulator, ada: User
) -> None:
    grant = await sign_in.sign_in(ada.email, ada.password)
    eve = supabase.add_user("eve@example.com", "another password")
    supabase.headers.clear()
    await sign_in.sign_in(eve.email, eve.password)
    (sent,) = supabase.headers
    assert sent["apikey"] == supabase.anon_key
    assert "Cookie" not in sent  # the emulator sets one, as the proxies before Supabase do
    assert grant.access_token not in str(sent)


async def test_no_secret_is_logged_even_at_debug_level(
    sign_in: PasswordSignIn, ada: User, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        grant = await sign_in.sign_in(ada.email, ada.password)
        again = await sign_in.refresh(grant.refresh_token)
        await sign_in.sign_out(again.access_token)
        await _code(sign_in.sign_in(ada.email, "wrong password"))
        await _code(sign_in.refresh(grant.refresh_token))
    logged = " ".join(f"{vars(record)}" for record in caplog.records)
    assert "/auth/v1/token" in logged  # the client's own lines are among them
    for secret in (ada.password, "wrong password", grant.refresh_token, again.refresh_token):
        assert secret not in logged
    for token in (grant.access_token, again.access_token):
        assert token.rpartition(".")[2] not in logged


async def test_without_the_package_the_start_says_what_to_install(
    supabase: SupabaseEmulator, tokens: SupabaseTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "supabase", None)
    monkeypatch.delitem(sys.modules, "sidecar.identity.supabase_client", raising=False)
    with pytest.raises(InvalidError) as refused:
        async with connected(supabase.url, supabase.anon_key, tokens):
            pass
    assert refused.value.code == "invalid_setting"
    assert "pip install -r requirements-supabase.txt" in refused.value.message
    assert "\n" not in refused.value.message


async def test_the_emulator_serves_a_user_as_a_process_of_its_own(
    tokens: SupabaseTokens,
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, EMULATOR, "--user", "a@b.example:it:is", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        said = json.loads(await process.stdout.readline())
        async with connected(said["url"], said["anon_key"], tokens) as there:
            assert await _code(there.sign_in("a@b.example", "wrong")) == "bad_login"
            # its tokens are another project's than the one that is checked here
            with pytest.raises(Exception, match="cannot be verified"):
                await there.sign_in("a@b.example", "it:is")
    finally:
        process.kill()
        await process.communicate()

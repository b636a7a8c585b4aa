"""Sign-in while Supabase Auth is away, broken, wrongly configured or short of patience."""

import traceback
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from clock import FakeClock
from signing_keys import HmacSecret, Signer, es256
from supabase_emulator import TOKEN_SECONDS, SupabaseEmulator, User
from troubled_server import Trouble, answering, answering_json, dripping, hanging_up

from sidecar.errors import AtelierError, QuotaError, UnauthenticatedError, UnavailableError
from sidecar.identity import PasswordSignIn
from sidecar.identity.supabase import connected
from sidecar.identity.supabase_client import SupabaseSignIn
from sidecar.identity.supabase_tokens import SupabaseTokens

PASSWORD = "correct horse battery staple"
REFRESH_TOKEN = "a-refresh-token-that-nobody-may-see"
ACCESS_TOKEN = "an-access-token-that-nobody-may-see"
SECRETS = (PASSWORD, REFRESH_TOKEN, ACCESS_TOKEN)

Call = Callable[[PasswordSignIn], Awaitable[object]]
CALLS: dict[str, Call] = {
    "sign_in": lambda there: there.sign_in("ada@example.com", PASSWORD),
    "refresh": lambda there: there.refresh(REFRESH_TOKEN),
    "sign_out": lambda there: there.sign_out(ACCESS_TOKEN),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
SESSION = {"access_token": ACCESS_TOKEN, "refresh_token": REFRESH_TOKEN, "expires_in": "soon"}


@pytest.fixture
async def sign_in(
    supabase: SupabaseEmulator, tokens: SupabaseTokens
) -> AsyncIterator[PasswordSignIn]:
    """Sign-in at that project."""
    supabase.add_user("ada@example.com", PASSWORD)
    async with connected(supabase.url, supabase.anon_key, tokens) as opened:
        yield opened


def _trouble(supabase: SupabaseEmulator, trouble: Trouble) -> None:
    supabase.trouble.update({"token": trouble, "logout": trouble})


async def _away(called: Awaitable[object]) -> UnavailableError:
    with pytest.raises(AtelierError) as refused:
        await called
    assert isinstance(refused.value, UnavailableError)
    assert refused.value.details["system"] == "supabase_auth"
    _holds_no_secret(refused.value)
    return refused.value


def _holds_no_secret(error: BaseException) -> None:
    shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    lines = [line for line in shown.splitlines() if "_TOKEN" not in line and "PASSWORD" not in line]
    assert not [secret for secret in SECRETS if secret in "\n".join(lines)]


DAYS: dict[str, Trouble] = {
    "hangs up": hanging_up,
    "a bad gateway": answering(b"<html>Bad gateway</html>", status=502),
    "overloaded": answering_json({"message": "try again"}, status=503),
    "an error of its own": answering_json(
        {"code": 500, "error_code": "unexpected_failure", "msg": "oops"}, status=500
    ),
    "an error with a code that means a refusal elsewhere": answering_json(
        {"code": 500, "error_code": "user_not_found", "msg": "oops"}, status=500
    ),
    "a page that is no JSON": answering(b"<html>Welcome</html>", status=400),
    "a redirect": answering(status=307, headers={"Location": "/auth/v1/user"}),
    "no such project": answering_json({"message": "no Route matched"}, status=404),
    "a hook that fails": answering_json(
        {"code": 422, "error_code": "hook_timeout", "msg": "oops"}, status=422
    ),
    "sign-in by e-mail switched off": answering_json(
        {"code": 422, "error_code": "email_provider_disabled", "msg": "no"}, status=422
    ),
}


@every_call
@pytest.mark.parametrize("day", DAYS.values(), ids=DAYS.keys())
async def test_supabase_is_named_when_it_does_not_answer_as_it_should(
    day: Trouble, call: Call, sign_in: PasswordSignIn, supabase: SupabaseEmulator
) -> None:
    _trouble(supabase, day)
    await _away(call(sign_in))


ODD: dict[str, Trouble] = {
    "no JSON": answering(f"<html>{ACCESS_TOKEN}</html>".encode()),
    "an empty answer": answering(b""),
    "a list": answering_json([ACCESS_TOKEN]),
    "half a session": answering_json(SESSION),
    "an endless nesting": answering(b"[" * 100_000),
    "not UTF-8": answering(b'{"access_token": "\xff"}'),
}


@pytest.mark.parametrize("call", [CALLS["sign_in"], CALLS["refresh"]], ids=["sign_in", "refresh"])
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
async def test_an_answer_that_is_no_session_gives_none(
    odd: Trouble, call: Call, sign_in: PasswordSignIn, supabase: SupabaseEmulator
) -> None:
    _trouble(supabase, odd)
    await _away(call(sign_in))


async def test_a_user_without_a_session_is_not_signed_in(
    sign_in: PasswordSignIn, supabase: SupabaseEmulator
) -> None:
    session = supabase.begin_session(next(iter(supabase.users.values())))
    _trouble(supabase, answering_json(session["user"]))
    await _away(CALLS["sign_in"](sign_in))


@every_call
async def test_a_port_where_nobody_listens_is_named(call: Call, tokens: SupabaseTokens) -> None:
    gone = SupabaseEmulator()
    async with gone.serving() as url:
        pass
    async with connected(url, gone.anon_key, tokens) as there:
        await _away(call(there))


@every_call
async def test_an_answer_that_never_ends_is_not_waited_for(
    call: Call, supabase: SupabaseEmulator, tokens: SupabaseTokens
) -> None:
    _trouble(supabase, dripping)
    there = SupabaseSignIn(supabase.url, supabase.anon_key, tokens, deadline=0.1)
    try:
        await _away(call(there))
    finally:
        await there.close()


@every_call
async def test_a_wrong_key_is_the_studios_fault_and_not_the_persons(
    call: Call, supabase: SupabaseEmulator, tokens: SupabaseTokens
) -> None:
    async with connected(supabase.url, "sb_publishable_of_another", tokens) as there:
        away = await _away(call(there))
    assert "SUPABASE_ANON_KEY" in away.message


@every_call
@pytest.mark.parametrize(
    "limit",
    [
        answering_json({"error_code": "over_request_rate_limit", "code": 429}, status=429),
        answering_json({"message": "API rate limit exceeded"}, status=429),
    ],
    ids=["its own", "its gateway's"],
)
async def test_too_many_sign_ins_are_told_so(
    limit: Trouble, call: Call, sign_in: PasswordSignIn, supabase: SupabaseEmulator
) -> None:
    _trouble(supabase, limit)
    with pytest.raises(QuotaError) as refused:
        await call(sign_in)
    assert refused.value.code == "too_many_logins"
    assert refused.value.details["retry_after"] > 0


async def test_a_server_from_before_there_were_codes_is_understood(
    sign_in: PasswordSignIn, supabase: SupabaseEmulator
) -> None:
    old = {"error": "invalid_grant", "error_description": "Invalid login credentials"}
    _trouble(supabase, answering_json(old, status=400))
    with pytest.raises(UnauthenticatedError) as login:
        await CALLS["sign_in"](sign_in)
    with pytest.raises(UnauthenticatedError) as refresh:
        await CALLS["refresh"](sign_in)
    assert (login.value.code, refresh.value.code) == ("bad_login", "bad_refresh_token")


async def test_a_token_that_cannot_be_verified_is_not_believed(
    sign_in: PasswordSignIn, supabase: SupabaseEmulator
) -> None:
    signers: list[tuple[Signer, str]] = [
        (es256("stranger"), "key"),
        (HmacSecret(b"a secret that is not configured here"), "algorithm"),
    ]
    for signer, flaw in signers:
        supabase.signer = signer
        away = await _away(CALLS["sign_in"](sign_in))
        assert away.details["flaw"] == flaw


async def test_a_clock_that_is_wrong_is_named(
    sign_in: PasswordSignIn, supabase: SupabaseEmulator, clock: FakeClock
) -> None:
    session = supabase.begin_session(next(iter(supabase.users.values())))
    clock.tick(TOKEN_SECONDS + 60)
    _trouble(supabase, answering_json(session))
    away = await _away(CALLS["sign_in"](sign_in))
    assert away.details["flaw"] == "token_expired"
    assert "clock" in away.message


async def test_nobody_is_signed_in_while_no_key_could_be_fetched(
    supabase: SupabaseEmulator, http: aiohttp.ClientSession, clock: FakeClock
) -> None:
    supabase.add_user("ada@example.com", PASSWORD)
    supabase.trouble["jwks"] = hanging_up
    tokens = SupabaseTokens(http, supabase.url, clock)
    async with tokens.running(), connected(supabase.url, supabase.anon_key, tokens) as there:
        await _away(CALLS["sign_in"](there))


async def test_tokens_that_are_there_work_while_supabase_is_down(
    sign_in: PasswordSignIn, tokens: SupabaseTokens, supabase: SupabaseEmulator
) -> None:
    grant = await sign_in.sign_in("ada@example.com", PASSWORD)
    for endpoint in ("jwks", "token", "logout", "user"):
        supabase.trouble[endpoint] = hanging_up
    assert await tokens.identify(grant.access_token) == grant.identity
    await _away(sign_in.refresh(grant.refresh_token))
    supabase.trouble.clear()
    assert (await sign_in.refresh(grant.refresh_token)).identity == grant.identity


async def test_a_person_can_sign_in_again_when_supabase_is_back(
    sign_in: PasswordSignIn, supabase: SupabaseEmulator, ada: User
) -> None:
    supabase.trouble["token"] = hanging_up
    await _away(sign_in.sign_in(ada.email, ada.password))
    supabase.trouble.clear()
    supabase.delete_user(next(one for one in supabase.users.values() if one is not ada))
    assert (await sign_in.sign_in(ada.email, ada.password)).identity.subject == ada.id

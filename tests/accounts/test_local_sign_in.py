"""Signing in with a password of our own: sessions begin, last by use, and end."""

import asyncio
import logging
from typing import Any

import pytest
import sqlalchemy as sa
from accounts_room import ANN, BEN, PASSWORD, SESSION_SECONDS, CountingHasher, Room, opened_room
from clock import FakeClock

from sidecar.accounts.user_views import UserChange
from sidecar.database import Database
from sidecar.database.tables import accounts, sessions
from sidecar.errors import ForbiddenError, QuotaError, UnauthenticatedError
from sidecar.principal import LOCAL, SYSTEM, Credentials

WRONG = "a wrong password"


class MidwayHasher(CountingHasher):
    """Lets something happen between the check of a password and what follows, once."""

    midway: Any = None
    loop: asyncio.AbstractEventLoop

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:
        """As CountingHasher does, and then the other thing."""
        found = super().verify(hash, password)
        if self.midway is not None:
            midway, self.midway = self.midway, None
            asyncio.run_coroutine_threadsafe(midway(), self.loop).result()
        return found


async def refused(room: Room, email: str = ANN, password: str = WRONG, **more: Any) -> str:
    with pytest.raises((UnauthenticatedError, QuotaError)) as error:
        await room.sign_in(email, password, **more)
    return error.value.code


async def rows(room: Room, *columns: sa.Column[Any]) -> list[Any]:
    async with room.database.transaction(SYSTEM, read_only=True) as tx:
        return list((await tx.execute(sa.select(*columns))).all())


async def test_the_right_password_opens_a_session(room: Room) -> None:
    account = await room.add(ANN)
    signed_in = await room.sign_in()
    principal = await room.bearer(str(signed_in.access_token))
    assert principal.id == signed_in.account.id == account.id
    assert principal.scopes is None
    assert (signed_in.expires_at - room.clock.now()).total_seconds() == SESSION_SECONDS


async def test_the_email_may_be_written_in_any_case(room: Room) -> None:
    await room.add("Ann@Example.org")
    assert (await room.sign_in(" aNN@exAMPLE.org ")).account.email == ANN


async def test_a_wrong_password_and_nobodys_name_are_refused_alike(room: Room) -> None:
    await room.add(ANN)
    with pytest.raises(UnauthenticatedError) as known:
        await room.sign_in(ANN, WRONG)
    with pytest.raises(UnauthenticatedError) as unknown:
        await room.sign_in(BEN, WRONG)
    assert (known.value.code, known.value.message, known.value.details) == (
        unknown.value.code,
        unknown.value.message,
        unknown.value.details,
    )


async def test_every_name_costs_one_verification(room: Room) -> None:
    await room.add(ANN)
    await room.users.add("none@example.org", password=None)
    costs = []
    for name in (ANN, BEN, "none@example.org"):
        before = len(room.hasher.verified)
        await refused(room, name)
        costs.append(len(room.hasher.verified) - before)
    assert costs == [1, 1, 1]


async def test_parallel_guesses_are_not_more_than_the_throttle_allows(room: Room) -> None:
    await room.add(ANN)
    before = len(room.hasher.verified)
    codes = await asyncio.gather(*(refused(room) for _ in range(15)))
    assert sorted(codes) == ["bad_login"] * 5 + ["too_many_logins"] * 10
    assert len(room.hasher.verified) - before == 5


async def test_after_five_failures_the_right_password_waits_as_well(room: Room) -> None:
    await room.add(ANN)
    for _ in range(5):
        await refused(room)
    assert await refused(room, password=PASSWORD) == "too_many_logins"
    room.clock.tick(300)
    await room.sign_in()


async def test_names_that_nobody_has_are_throttled_like_others(room: Room) -> None:
    for _ in range(5):
        await refused(room, BEN)
    assert await refused(room, BEN) == "too_many_logins"


async def test_one_address_may_not_try_name_after_name(room: Room) -> None:
    await room.add(ANN)
    for number in range(30):
        await refused(room, f"name{number}@example.org", address="192.0.2.9")
    assert await refused(room, ANN, PASSWORD, address="192.0.2.9") == "too_many_logins"
    await room.sign_in(ANN, PASSWORD, "192.0.2.10")


async def test_each_sign_in_has_a_token_of_its_own(room: Room) -> None:
    await room.add(ANN)
    tokens = {await room.token() for _ in range(3)}
    assert len(tokens) == 3
    assert all(token.startswith("ats_") for token in tokens)


async def test_a_session_lasts_as_long_as_it_is_used(room: Room) -> None:
    await room.add(ANN)
    token = await room.token()
    for _ in range(5):
        room.clock.tick(SESSION_SECONDS - 1)
        await room.bearer(token)


async def test_a_session_that_is_not_used_ends(room: Room) -> None:
    await room.add(ANN)
    token = await room.token()
    room.clock.tick(SESSION_SECONDS)
    with pytest.raises(UnauthenticatedError) as ended:
        await room.bearer(token)
    assert ended.value.code == "session_ended"


async def test_use_is_written_down_at_most_every_minute(room: Room) -> None:
    await room.add(ANN)
    token = await room.token()
    began = room.clock.now()
    room.clock.tick(59)
    await room.bearer(token)
    assert await rows(room, sessions.c.seen_at) == [(began,)]
    room.clock.tick(1)
    await room.bearer(token)
    assert await rows(room, sessions.c.seen_at) == [(room.clock.now(),)]
    assert await rows(room, accounts.c.seen_at) == [(room.clock.now(),)]


async def test_refreshing_lets_the_session_last_anew(room: Room) -> None:
    await room.add(ANN)
    token = await room.token()
    room.clock.tick(30)
    refreshed = await room.signing_in.refresh(Credentials(bearer=token), None)
    assert refreshed.access_token == token
    assert (refreshed.expires_at - room.clock.now()).total_seconds() == SESSION_SECONDS
    room.clock.tick(SESSION_SECONDS - 1)
    await room.bearer(token)


async def test_refreshing_by_cookie_tells_no_script_the_token(room: Room) -> None:
    await room.add(ANN)
    token = await room.token()
    refreshed = await room.signing_in.refresh(Credentials(cookie=token), None)
    assert refreshed.access_token is None
    assert refreshed.session_token == token


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        (Credentials(), "sign_in_required"),
        (Credentials(bearer="ats_guess"), "session_ended"),
        (Credentials(cookie="ats_guess"), "session_ended"),
        (Credentials(bearer="atl_guess"), "session_ended"),
    ],
)
async def test_nothing_good_cannot_be_refreshed(room: Room, shown: Credentials, code: str) -> None:
    with pytest.raises(UnauthenticatedError) as refusal:
        await room.signing_in.refresh(shown, None)
    assert refusal.value.code == code


async def test_signing_out_ends_the_sessions_that_are_shown_and_no_other(room: Room) -> None:
    await room.add(ANN)
    shown, cookie, other = [await room.token() for _ in range(3)]
    await room.signing_in.sign_out(Credentials(bearer=shown, cookie=cookie))
    for token in (shown, cookie):
        with pytest.raises(UnauthenticatedError):
            await room.bearer(token)
    await room.bearer(other)


@pytest.mark.parametrize(
    "shown", [Credentials(), Credentials(bearer="ats_x", cookie="ats_y"), Credentials(bearer="x.y")]
)
async def test_signing_out_without_anything_good_is_no_error(
    room: Room, shown: Credentials
) -> None:
    await room.signing_in.sign_out(shown)


async def test_a_disabled_account_is_told_so_with_the_right_password_alone(room: Room) -> None:
    await room.add(ANN)
    ben = await room.add(BEN)
    await room.users.change(LOCAL, ben.id, UserChange(disabled=True))
    assert await refused(room, BEN, WRONG) == "bad_login"
    assert await refused(room, BEN, PASSWORD) == "account_disabled"


async def test_a_password_that_was_changed_while_it_was_checked_opens_nothing(
    database: Database, clock: FakeClock
) -> None:
    async with opened_room(database, clock, ["local"], hasher := MidwayHasher()) as room:
        account = await room.add(ANN)
        hasher.loop = asyncio.get_running_loop()
        hasher.midway = lambda: room.users.set_password(account.id, "another password")
        assert await refused(room, ANN, PASSWORD) == "bad_login"
        assert await rows(room, sessions.c.id) == []
        await room.sign_in(ANN, "another password")


async def test_a_hash_with_old_parameters_is_renewed_at_sign_in(
    database: Database, clock: FakeClock
) -> None:
    async with opened_room(database, clock, ["local"]) as room:
        await room.add(ANN)
        (before,) = await rows(room, accounts.c.password_hash)
    async with opened_room(database, clock, ["local"], CountingHasher(time_cost=2)) as room:
        await asyncio.gather(room.sign_in(), room.sign_in())
        (after,) = await rows(room, accounts.c.password_hash)
        await room.sign_in()
    assert (",t=1," in before[0], ",t=2," in after[0]) == (True, True)


async def test_sessions_that_have_ended_are_forgotten_at_the_next_sign_in(room: Room) -> None:
    await room.add(ANN)
    await room.token()
    room.clock.tick(SESSION_SECONDS)
    await room.token()
    assert len(await rows(room, sessions.c.id)) == 1


async def test_without_passwords_nobody_signs_in_with_one(open_room: Any) -> None:
    for ways in (("none",), ("cloudflare",)):
        room = await open_room(*ways)
        with pytest.raises(ForbiddenError) as refusal:
            await room.sign_in()
        assert refusal.value.code == "no_passwords_here"


async def test_no_row_and_no_log_line_holds_a_secret(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "sidecar")
    await room.add(ANN)
    await refused(room, ANN, WRONG)
    token = await room.token()
    await room.bearer(token)
    await room.signing_in.refresh(Credentials(bearer=token), None)
    kept = str(await rows(room, *sessions.c)) + str(await rows(room, *accounts.c))
    await room.signing_in.sign_out(Credentials(bearer=token))
    said = " ".join(str(vars(record)) for record in caplog.records)
    for secret in (PASSWORD, WRONG, token, token.removeprefix("ats_")):
        assert secret not in kept
        assert secret not in said
    assert "session.began" in said


async def test_what_a_client_says_about_itself_is_kept_short_and_printable(room: Room) -> None:
    await room.add(ANN)
    await room.signing_in.sign_in(ANN, PASSWORD, "192.0.2.1", "\udcff\x1b[31m" + "x" * 9999)
    ((agent,),) = await rows(room, sessions.c.user_agent)
    assert agent.startswith("[31mxxx")
    assert len(agent) == 300

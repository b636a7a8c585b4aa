"""Supabase Auth and Cloudflare Access vouch for people; which account that is, is decided here."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from accounts_room import ANN, BEN, PASSWORD, SESSION_SECONDS, OpenRoom, Room
from sample_graphs import txt2img

from sidecar.accounts.user_views import UserChange
from sidecar.errors import (
    ConflictError,
    ForbiddenError,
    NotFoundError,
    QuotaError,
    UnauthenticatedError,
    UnavailableError,
)
from sidecar.identity import Identity, Provider
from sidecar.principal import LOCAL, LOCAL_ACCOUNT_ID, Credentials, Principal, Role
from sidecar.workflows.models import WorkflowOrder
from sidecar.workflows.service import WorkflowService

ANNS_ID, BENS_ID = UUID(int=101), UUID(int=102)
SUPABASE_ANN = Identity(Provider.SUPABASE, str(ANNS_ID), ANN)
SUPABASE_BEN = Identity(Provider.SUPABASE, str(BENS_ID), BEN)
CLOUDFLARE_ANN = Identity(Provider.CLOUDFLARE, "a-subject", ANN)


@pytest.fixture
async def supabase(open_room: OpenRoom) -> Room:
    """A studio whose people are Supabase's; Ann and Ben have passwords there."""
    room = await open_room("supabase")
    room.supabase.known[ANN] = (PASSWORD, SUPABASE_ANN)
    room.supabase.known[BEN] = (PASSWORD, SUPABASE_BEN)
    return room


@pytest.fixture
async def cloudflare(open_room: OpenRoom) -> Room:
    """A studio behind Cloudflare Access."""
    return await open_room("cloudflare")


async def asserted(room: Room, identity: Identity, cookie: str | None = None) -> Principal:
    """Who asks with this identity's assertion."""
    assertion = room.cloudflare.issue(identity)
    return await room.authentication.authenticate(Credentials(assertion=assertion, cookie=cookie))


async def refused(room: Room, shown: Credentials) -> str:
    with pytest.raises((UnauthenticatedError, ForbiddenError)) as refusal:
        await room.authentication.authenticate(shown)
    return refusal.value.code


async def test_the_first_sight_of_somebody_makes_a_member(supabase: Room) -> None:
    principal = await supabase.bearer(supabase.supabase_tokens.issue(SUPABASE_ANN))
    user = await supabase.users.get(principal.id)
    assert (user.account.shown_email, user.account.supabase_id) == (ANN, ANNS_ID)
    assert principal.role is Role.MEMBER
    assert principal.id not in (LOCAL_ACCOUNT_ID, ANNS_ID)
    assert principal.credential is None


async def test_at_second_sight_it_is_the_same_account(supabase: Room) -> None:
    tokens = [supabase.supabase_tokens.issue(SUPABASE_ANN) for _ in range(2)]
    first, second = [await supabase.bearer(token) for token in tokens]
    assert first == second


async def test_somebody_seen_twice_at_once_for_the_first_time_is_one_account(
    supabase: Room,
) -> None:
    tokens = [supabase.supabase_tokens.issue(SUPABASE_ANN) for _ in range(8)]
    principals = await asyncio.gather(*(supabase.bearer(token) for token in tokens))
    assert len({principal.id for principal in principals}) == 1


async def test_somebody_without_an_email_gets_an_account_too(supabase: Room) -> None:
    nameless = Identity(Provider.SUPABASE, str(uuid4()), None)
    principal = await supabase.bearer(supabase.supabase_tokens.issue(nameless))
    assert (await supabase.users.get(principal.id)).account.shown_email is None


async def test_the_email_of_another_account_gives_nobody_that_account(supabase: Room) -> None:
    account = await supabase.users.add(ANN)
    principal = await supabase.bearer(supabase.supabase_tokens.issue(SUPABASE_ANN))
    assert principal.id != account.id
    assert principal.role is Role.MEMBER
    assert (await supabase.users.named(ANN)).id == account.id


async def test_nobody_is_found_by_what_supabase_says(supabase: Room) -> None:
    principal = await supabase.bearer(supabase.supabase_tokens.issue(SUPABASE_ANN))
    with pytest.raises(NotFoundError):
        await supabase.users.named(ANN)
    account = await supabase.users.add(ANN)
    assert account.id != principal.id
    assert (await supabase.users.named(str(principal.id))).supabase_email == ANN


async def test_what_supabase_says_now_is_shown(supabase: Room) -> None:
    first = await supabase.bearer(supabase.supabase_tokens.issue(SUPABASE_ANN))
    for email in ("new@example.org", None):
        renamed = Identity(Provider.SUPABASE, str(ANNS_ID), email)
        await supabase.bearer(supabase.supabase_tokens.issue(renamed))
        assert (await supabase.users.get(first.id)).account.shown_email == email
    supabase.supabase.known[ANN] = (PASSWORD, SUPABASE_ANN)
    assert (await supabase.sign_in()).account.shown_email == ANN


async def test_the_email_that_an_admin_gave_is_shown_before_supabases(supabase: Room) -> None:
    account = await supabase.users.add(BEN, supabase_id=ANNS_ID)
    await supabase.bearer(supabase.supabase_tokens.issue(SUPABASE_ANN))
    found = (await supabase.users.get(account.id)).account
    assert (found.shown_email, found.supabase_email) == (BEN, ANN)


async def test_two_users_of_supabase_may_have_one_email(supabase: Room) -> None:
    other = Identity(Provider.SUPABASE, str(uuid4()), ANN)
    both = [supabase.supabase_tokens.issue(each) for each in (SUPABASE_ANN, other)]
    first, second = [await supabase.bearer(token) for token in both]
    assert first.id != second.id


async def test_a_stream_ends_with_the_token_that_it_was_asked_for_with(
    supabase: Room, open_room: OpenRoom
) -> None:
    behind_access = await open_room("cloudflare")
    ends = supabase.clock.now() + timedelta(seconds=60)
    by_supabase = await supabase.bearer(
        supabase.supabase_tokens.issue(replace(SUPABASE_BEN, expires_at=ends))
    )
    by_access = await asserted(behind_access, replace(CLOUDFLARE_ANN, expires_at=ends))
    asked = ((supabase, by_supabase), (behind_access, by_access))
    supabase.clock.tick(59)
    assert [await room.authentication.is_welcome(who) for room, who in asked] == [True, True]
    supabase.clock.tick(1)
    assert [await room.authentication.is_welcome(who) for room, who in asked] == [False, False]


async def test_an_admin_links_the_two(supabase: Room) -> None:
    account = await supabase.users.add(ANN)
    await supabase.users.link(account.id, ANNS_ID)
    principal = await supabase.bearer(supabase.supabase_tokens.issue(SUPABASE_ANN))
    assert (principal.id, principal.role) == (account.id, Role.ADMIN)


async def test_an_admin_links_somebody_who_was_seen_before(supabase: Room) -> None:
    account = await supabase.users.add(ANN)
    token = supabase.supabase_tokens.issue(SUPABASE_ANN)
    seen = await supabase.bearer(token)
    cookie = str((await supabase.sign_in()).session_token)
    await supabase.users.link(account.id, ANNS_ID)
    assert (await supabase.bearer(token)).id == account.id
    left = (await supabase.users.get(seen.id)).account
    assert (left.is_enabled, left.supabase_id, left.shown_email) == (False, None, None)
    assert await refused(supabase, Credentials(bearer=cookie)) == "session_ended"


async def test_who_has_made_something_is_linked_to_no_other_account(supabase: Room) -> None:
    account = await supabase.users.add(ANN)
    seen = await supabase.bearer(supabase.supabase_tokens.issue(SUPABASE_ANN))
    order = WorkflowOrder.model_validate({"name": "cat", "workflow_json": txt2img()})
    await WorkflowService(supabase.database, supabase.clock, uuid4).add(seen, order)
    with pytest.raises(ConflictError) as refusal:
        await supabase.users.link(account.id, ANNS_ID)
    assert refusal.value.code == "supabase_id_taken"
    assert refusal.value.details["account"] == str(seen.id)


async def test_a_disabled_account_is_refused_whoever_vouches(supabase: Room) -> None:
    token = supabase.supabase_tokens.issue(SUPABASE_ANN)
    principal = await supabase.bearer(token)
    await supabase.users.change(LOCAL, principal.id, UserChange(disabled=True))
    assert await refused(supabase, Credentials(bearer=token)) == "account_disabled"
    with pytest.raises(UnauthenticatedError, match="disabled"):
        await supabase.sign_in()
    with pytest.raises(UnauthenticatedError, match="disabled"):
        await supabase.signing_in.refresh(Credentials(), next(iter(supabase.supabase.refreshed)))


async def test_a_token_that_the_check_refuses_is_refused(supabase: Room) -> None:
    assert await refused(supabase, Credentials(bearer="eyJ.forged")) == "bad_token"


async def test_without_supabase_its_tokens_are_nobodys(room: Room) -> None:
    token = room.supabase_tokens.issue(SUPABASE_ANN)
    assert await refused(room, Credentials(bearer=token)) == "bad_token"


async def test_signing_in_gives_supabases_tokens_and_a_session_of_our_own(supabase: Room) -> None:
    signed_in = await supabase.sign_in()
    by_token = await supabase.bearer(str(signed_in.access_token))
    by_cookie = await supabase.authentication.authenticate(
        Credentials(cookie=signed_in.session_token)
    )
    assert by_token.id == by_cookie.id == signed_in.account.id
    assert signed_in.refresh_token is not None
    assert str(signed_in.session_token).startswith("ats_")


async def test_with_both_a_password_of_our_own_is_tried_first(open_room: OpenRoom) -> None:
    room = await open_room("local", "supabase")
    await room.add(ANN)
    signed_in = await room.sign_in()
    assert room.supabase.asked == []
    assert signed_in.refresh_token is None


async def test_every_failure_has_been_to_both(open_room: OpenRoom) -> None:
    room = await open_room("local", "supabase")
    await room.add(ANN)
    verified = len(room.hasher.verified)
    for name in (ANN, BEN):
        with pytest.raises(UnauthenticatedError):
            await room.sign_in(name, "a wrong password")
    assert len(room.hasher.verified) - verified == 2
    assert room.supabase.asked == [ANN, BEN]


async def test_supabase_lets_in_whom_we_have_no_password_of(open_room: OpenRoom) -> None:
    room = await open_room("local", "supabase")
    room.supabase.known[BEN] = (PASSWORD, SUPABASE_BEN)
    assert (await room.sign_in(BEN)).account.supabase_id == BENS_ID


async def test_while_supabase_is_away_sessions_and_local_passwords_are_good(
    open_room: OpenRoom,
) -> None:
    room = await open_room("local", "supabase")
    room.supabase.known[BEN] = (PASSWORD, SUPABASE_BEN)
    await room.add(ANN)
    bens = await room.token(BEN)
    room.supabase.fails = UnavailableError("supabase_auth", "away")
    await room.bearer(bens)
    await room.sign_in(ANN)
    with pytest.raises(UnavailableError):
        await room.sign_in(BEN)


async def test_attempts_while_supabase_is_away_are_not_held_against_anybody(
    open_room: OpenRoom,
) -> None:
    room = await open_room("supabase")
    room.supabase.known[BEN] = (PASSWORD, SUPABASE_BEN)
    room.supabase.fails = UnavailableError("supabase_auth", "away")
    for _ in range(6):
        with pytest.raises(UnavailableError):
            await room.sign_in(BEN)
    room.supabase.fails = None
    await room.sign_in(BEN)


async def test_a_guess_at_a_password_of_ours_counts_although_supabase_is_away(
    open_room: OpenRoom,
) -> None:
    room = await open_room("local", "supabase")
    await room.add(ANN)
    room.supabase.fails = UnavailableError("supabase_auth", "away")
    for _ in range(5):
        with pytest.raises(UnavailableError):
            await room.sign_in(ANN, "a wrong password")
    with pytest.raises(QuotaError):
        await room.sign_in(ANN)


async def test_a_session_on_supabases_word_does_not_last_by_use_alone(supabase: Room) -> None:
    token = await supabase.token()
    supabase.clock.tick(SESSION_SECONDS - 1)
    await supabase.bearer(token)
    supabase.clock.tick(1)
    assert await refused(supabase, Credentials(bearer=token)) == "session_ended"


async def test_it_lasts_anew_when_supabase_says_so_again(supabase: Room) -> None:
    signed_in = await supabase.sign_in()
    supabase.clock.tick(SESSION_SECONDS - 1)
    shown = Credentials(cookie=signed_in.session_token)
    refreshed = await supabase.signing_in.refresh(shown, signed_in.refresh_token)
    assert refreshed.access_token not in (None, signed_in.access_token)
    supabase.clock.tick(SESSION_SECONDS - 1)
    await supabase.authentication.authenticate(shown)


async def test_ones_refresh_token_makes_nobody_elses_session_last(supabase: Room) -> None:
    anns, bens = await supabase.sign_in(ANN), await supabase.sign_in(BEN)
    supabase.clock.tick(SESSION_SECONDS - 1)
    shown = Credentials(cookie=anns.session_token)
    refreshed = await supabase.signing_in.refresh(shown, bens.refresh_token)
    assert refreshed.account == (await supabase.users.get(bens.account.id)).account
    assert refreshed.session_token is None
    supabase.clock.tick(1)
    assert await refused(supabase, shown) == "session_ended"


async def test_when_local_passwords_are_off_a_session_does_not_last_by_one(
    open_room: OpenRoom,
) -> None:
    room = await open_room("local")
    await room.add(ANN)
    token = await room.token()
    room = await open_room("supabase")
    room.clock.tick(SESSION_SECONDS - 1)
    await room.bearer(token)
    room.clock.tick(1)
    assert await refused(room, Credentials(bearer=token)) == "session_ended"


async def test_a_refresh_token_that_was_used_or_is_nobodys_is_refused(
    supabase: Room, room: Room
) -> None:
    signed_in = await supabase.sign_in()
    await supabase.signing_in.refresh(Credentials(), signed_in.refresh_token)
    for studio in (supabase, room):
        with pytest.raises(UnauthenticatedError) as refusal:
            await studio.signing_in.refresh(Credentials(), signed_in.refresh_token)
        assert refusal.value.code == "bad_refresh_token"


async def test_signing_out_ends_both_sessions(supabase: Room) -> None:
    signed_in = await supabase.sign_in()
    shown = Credentials(bearer=signed_in.access_token, cookie=signed_in.session_token)
    await supabase.signing_in.sign_out(shown)
    assert supabase.supabase.signed_out == [signed_in.access_token]
    cookie = Credentials(cookie=signed_in.session_token)
    assert await refused(supabase, cookie) == "session_ended"


async def test_supabase_is_not_told_to_sign_out_tokens_that_are_not_its_own(
    supabase: Room,
) -> None:
    for bearer in ("eyJ.forged", "ats_x", "atl_x"):
        await supabase.signing_in.sign_out(Credentials(bearer=bearer))
    assert supabase.supabase.signed_out == []


async def test_our_own_session_ends_even_when_supabase_is_away(supabase: Room) -> None:
    signed_in = await supabase.sign_in()
    supabase.supabase.fails = UnavailableError("supabase_auth", "away")
    shown = Credentials(bearer=signed_in.access_token, cookie=signed_in.session_token)
    with pytest.raises(UnavailableError):
        await supabase.signing_in.sign_out(shown)
    cookie = Credentials(cookie=signed_in.session_token)
    assert await refused(supabase, cookie) == "session_ended"


async def test_cloudflares_people_are_found_by_email_in_any_case(cloudflare: Room) -> None:
    account = await cloudflare.users.add(ANN)
    principal = await asserted(
        cloudflare, Identity(Provider.CLOUDFLARE, "a-subject", "Ann@Example.ORG")
    )
    assert (principal.id, principal.role) == (account.id, Role.ADMIN)


async def test_cloudflares_people_become_members_at_first_sight(cloudflare: Room) -> None:
    await cloudflare.users.add(BEN)
    first = await asserted(cloudflare, CLOUDFLARE_ANN)
    assert first == await asserted(cloudflare, CLOUDFLARE_ANN)
    assert first.role is Role.MEMBER


async def test_an_assertion_without_an_email_names_nobody(cloudflare: Room) -> None:
    with pytest.raises(UnauthenticatedError) as refusal:
        await asserted(cloudflare, Identity(Provider.CLOUDFLARE, "a-service", None))
    assert refusal.value.code == "bad_token"


async def test_an_assertion_counts_for_nothing_where_cloudflare_is_off(room: Room) -> None:
    await room.add(ANN)
    assertion = room.cloudflare.issue(CLOUDFLARE_ANN)
    assert await refused(room, Credentials(assertion=assertion)) == "sign_in_required"


async def test_a_live_session_comes_before_the_assertion_and_a_dead_one_after(
    open_room: OpenRoom,
) -> None:
    room = await open_room("local", "cloudflare")
    await room.add(BEN)
    cookie = await room.token(BEN)
    live = await asserted(room, CLOUDFLARE_ANN, cookie)
    await room.signing_in.sign_out(Credentials(cookie=cookie))
    dead = await asserted(room, CLOUDFLARE_ANN, cookie)
    emails = [(await room.users.get(each.id)).account.email for each in (live, dead)]
    assert emails == [BEN, ANN]


async def test_an_unproved_email_at_supabase_does_not_wait_for_its_owner_at_cloudflare(
    open_room: OpenRoom,
) -> None:
    room = await open_room("supabase", "cloudflare")
    squatter = await room.bearer(room.supabase_tokens.issue(SUPABASE_ANN))
    owner = await asserted(room, CLOUDFLARE_ANN)
    assert squatter.id != owner.id
    assert (await room.users.get(squatter.id)).account.email is None

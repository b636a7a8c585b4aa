"""From what a request shows to the principal; admins who ask for others; streams that go on."""

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from accounts_room import ANN, BEN, SESSION_SECONDS, OpenRoom, Room

from sidecar.accounts.authentication import Authentication
from sidecar.accounts.user_views import UserChange
from sidecar.accounts.views import TokenOrder
from sidecar.database import Database, Transaction
from sidecar.errors import AtelierError, StorageFullError
from sidecar.principal import LOCAL, Credentials, Principal, Role


async def refused(room: Room, shown: Credentials) -> str:
    with pytest.raises(AtelierError) as refusal:
        await room.authentication.authenticate(shown)
    return refusal.value.code


async def api_token(room: Room, email: str, *scopes: str, days: int | None = None) -> str:
    order = TokenOrder.model_validate(
        {"name": "script", "scopes": list(scopes), "expires_in_days": days}
    )
    return (await room.accounts.add_token(await room.principal(email), order))[1]


async def test_without_sign_in_everyone_is_local_whatever_is_shown(open_room: OpenRoom) -> None:
    room = await open_room("none")
    for shown in (Credentials(), Credentials(bearer="ats_x", cookie="y", assertion="z")):
        assert await room.authentication.authenticate(shown) == LOCAL
    assert await room.authentication.is_welcome(LOCAL)


async def test_without_sign_in_nobody_else_is_there_to_act_for(open_room: OpenRoom) -> None:
    room = await open_room("none")
    assert await refused(room, Credentials(acting_for=str(uuid4()))) == "account_not_found"
    assert await room.authentication.authenticate(Credentials(acting_for=str(LOCAL.id))) == LOCAL


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        (Credentials(), "sign_in_required"),
        (Credentials(bearer="ats_guess"), "session_ended"),
        (Credentials(bearer="atl_guess"), "bad_token"),
        (Credentials(bearer="eyJ.a.b"), "bad_token"),
        (Credentials(bearer="\udcff"), "bad_token"),
        (Credentials(cookie="ats_\udcff"), "session_ended"),
        (Credentials(cookie="anything"), "session_ended"),
        (Credentials(assertion="eyJ.a.b"), "sign_in_required"),
    ],
)
async def test_what_names_nobody_is_refused(room: Room, shown: Credentials, code: str) -> None:
    assert await refused(room, shown) == code


async def test_who_shows_nothing_hears_how_one_signs_in_here(room: Room) -> None:
    with pytest.raises(AtelierError) as refusal:
        await room.authentication.authenticate(Credentials())
    assert refusal.value.details == {"ways": ["local"]}


async def test_a_bad_bearer_is_not_made_good_by_a_cookie(room: Room) -> None:
    await room.add(ANN)
    cookie = await room.token()
    assert await refused(room, Credentials(bearer="ats_guess", cookie=cookie)) == "session_ended"


async def test_a_cookie_does_not_take_api_tokens(room: Room) -> None:
    await room.add(ANN)
    token = await api_token(room, ANN, "runs:read")
    assert await refused(room, Credentials(cookie=token)) == "session_ended"


async def test_a_token_planted_as_a_cookie_before_sign_in_names_nobody_after_it(
    room: Room,
) -> None:
    await room.add(ANN)
    planted = "ats_" + "x" * 43
    token = await room.token()
    assert token != planted
    assert await refused(room, Credentials(cookie=planted)) == "session_ended"


async def test_an_api_token_has_its_scopes_alone(room: Room) -> None:
    await room.add(ANN)
    principal = await room.bearer(await api_token(room, ANN, "runs:read", "loras:write"))
    assert principal.scopes == {"runs:read", "loras:write"}
    assert principal.may("runs:read")
    assert not principal.may("runs:write")


async def test_an_api_token_expires(room: Room) -> None:
    await room.add(ANN)
    token = await api_token(room, ANN, "runs:read", days=1)
    room.clock.tick(86_399)
    await room.bearer(token)
    room.clock.tick(1)
    assert await refused(room, Credentials(bearer=token)) == "token_expired"


async def test_a_role_that_was_taken_is_gone_at_the_next_request(room: Room) -> None:
    await room.add(ANN)
    ben = await room.add(BEN, role=Role.ADMIN)
    token = await room.token(BEN)
    assert (await room.bearer(token)).role is Role.ADMIN
    await room.users.change(LOCAL, ben.id, UserChange(role="member"))
    assert (await room.bearer(token)).role is Role.MEMBER


class FullAtWrites:
    """A database whose disk is full: only reading works."""

    def __init__(self, inner: Database) -> None:
        self.alone, self.check = inner.alone, inner.check
        self._inner = inner

    def transaction(
        self, principal: Principal, *, read_only: bool = False
    ) -> AbstractAsyncContextManager[Transaction]:
        """See Database."""
        if not read_only:
            raise StorageFullError("disk_full", "The disk of the database is full.")
        return self._inner.transaction(principal, read_only=True)


async def test_people_are_known_when_the_disk_is_full_too(room: Room) -> None:
    account = await room.add(ANN)
    token = await room.token()
    room.clock.tick(100)
    authentication = Authentication(
        FullAtWrites(room.database),
        room.clock,
        room.vouched,
        ways=["local"],
        session_seconds=SESSION_SECONDS,
    )
    assert (await authentication.authenticate(Credentials(bearer=token))).id == account.id


async def test_an_admin_acts_for_another_with_that_ones_rights(room: Room) -> None:
    admin, ben = await room.add(ANN), await room.add(BEN)
    token = await room.token()
    principal = await room.bearer(token, str(ben.id))
    assert (principal.id, principal.role, principal.acting) == (ben.id, Role.MEMBER, admin.id)
    assert principal.credential is not None


async def test_an_admin_who_asks_for_oneself_stays_admin(room: Room) -> None:
    admin = await room.add(ANN)
    assert (await room.bearer(await room.token(), str(admin.id))).role is Role.ADMIN


@pytest.mark.parametrize("wanted", ["", "everybody", str(UUID(int=7)), "\udcff"])
async def test_nobody_can_be_acted_for_who_is_not_there(room: Room, wanted: str) -> None:
    await room.add(ANN)
    shown = Credentials(bearer=await room.token(), acting_for=wanted)
    assert await refused(room, shown) == "account_not_found"


async def test_a_member_acts_for_nobody_and_does_not_hear_who_is_there(room: Room) -> None:
    admin = await room.add(ANN)
    await room.add(BEN)
    token = await room.token(BEN)
    for wanted in (str(admin.id), str(uuid4()), "everybody"):
        assert await refused(room, Credentials(bearer=token, acting_for=wanted)) == "admins_only"


async def test_an_admins_token_acts_for_others_with_the_scope_for_it_alone(room: Room) -> None:
    await room.add(ANN)
    ben = await room.add(BEN)
    without = await api_token(room, ANN, "users:read", "runs:read")
    shown = Credentials(bearer=without, acting_for=str(ben.id))
    assert await refused(room, shown) == "scope_missing"
    acting = await room.bearer(await api_token(room, ANN, "users:write", "runs:read"), str(ben.id))
    assert acting.scopes == {"users:write", "runs:read"}


async def test_a_session_is_welcome_until_it_ends(room: Room) -> None:
    await room.add(ANN)
    principal = await room.principal()
    assert await room.authentication.is_welcome(principal)
    room.clock.tick(SESSION_SECONDS)
    assert not await room.authentication.is_welcome(principal)


async def test_what_was_revoked_is_not_welcome_any_more(room: Room) -> None:
    await room.add(ANN)
    by_session = await room.principal()
    by_token = await room.bearer(await api_token(room, ANN, "runs:read"))
    assert by_session.credential is not None
    assert by_token.credential is not None
    assert await room.authentication.is_welcome(by_token)
    await room.accounts.delete_token(by_session, by_token.credential)
    await room.accounts.end_session(by_session, by_session.credential)
    assert not await room.authentication.is_welcome(by_session)
    assert not await room.authentication.is_welcome(by_token)


async def test_a_token_that_has_expired_is_not_welcome(room: Room) -> None:
    await room.add(ANN)
    principal = await room.bearer(await api_token(room, ANN, "runs:read", days=1))
    room.clock.tick(86_400)
    assert not await room.authentication.is_welcome(principal)


async def test_a_disabled_account_is_not_welcome_however_it_was_let_in(room: Room) -> None:
    await room.add(ANN)
    ben = await room.add(BEN)
    by_session = await room.principal(BEN)
    by_jwt = Principal(ben.id)
    assert await room.authentication.is_welcome(by_jwt)
    await room.users.change(LOCAL, ben.id, UserChange(disabled=True))
    assert not await room.authentication.is_welcome(by_session)
    assert not await room.authentication.is_welcome(by_jwt)


async def test_nobodys_account_and_somebody_elses_session_are_not_welcome(room: Room) -> None:
    await room.add(ANN)
    ben = await room.add(BEN)
    principal = await room.principal()
    assert not await room.authentication.is_welcome(Principal(uuid4()))
    assert not await room.authentication.is_welcome(replace(principal, id=ben.id))


async def test_who_acts_for_another_is_welcome_while_an_admin(room: Room) -> None:
    admin, ben = await room.add(ANN), await room.add(BEN)
    await room.add("cy@example.org", role=Role.ADMIN)
    principal = await room.bearer(await room.token(), str(ben.id))
    assert await room.authentication.is_welcome(principal)
    await room.users.change(LOCAL, admin.id, UserChange(role="member"))
    assert not await room.authentication.is_welcome(principal)

"""One's own sessions and API tokens: listed, ended, made; nobody else's are there."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa
from accounts_room import ANN, BEN, QUOTAS, SESSION_SECONDS, OpenRoom, Room
from pydantic import ValidationError

from sidecar.accounts.models import SCOPES
from sidecar.accounts.user_views import UserChange
from sidecar.accounts.views import TokenOrder
from sidecar.database.pages import PageQuery
from sidecar.database.tables import api_tokens
from sidecar.errors import (
    AtelierError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnauthenticatedError,
)
from sidecar.principal import LOCAL, SYSTEM

EVERYTHING = PageQuery(limit=200)


def order(*scopes: str, **more: Any) -> TokenOrder:
    return TokenOrder.model_validate(
        {"name": "script", "scopes": list(scopes or ("runs:read",)), **more}
    )


async def test_sessions_are_listed_newest_first_with_where_they_are_from(room: Room) -> None:
    await room.add(ANN)
    await room.sign_in(address="192.0.2.1")
    room.clock.tick()
    principal = await room.principal()
    page = await room.accounts.sessions(principal, EVERYTHING)
    assert [each.id == principal.credential for each in page.items] == [True, False]
    assert [each.user_agent for each in page.items] == ["tests/1.0"] * 2


async def test_sessions_come_in_pages(room: Room) -> None:
    await room.add(ANN)
    principal = await room.principal()
    for _ in range(4):
        await room.token()
    found: list[Any] = []
    cursor = None
    while len(found) < 5:
        page = await room.accounts.sessions(principal, PageQuery(limit=2, cursor=cursor))
        found += page.items
        cursor = page.next_cursor
    assert len({each.id for each in found}) == 5
    assert cursor is None


async def test_sessions_that_have_ended_are_not_listed(room: Room) -> None:
    await room.add(ANN)
    await room.token()
    room.clock.tick(SESSION_SECONDS)
    principal = await room.principal()
    assert len((await room.accounts.sessions(principal, EVERYTHING)).items) == 1


async def test_a_session_that_was_ended_is_good_no_more(room: Room) -> None:
    await room.add(ANN)
    lost = await room.token()
    credential = (await room.bearer(lost)).credential
    assert credential is not None
    await room.accounts.end_session(await room.principal(), credential)
    with pytest.raises(UnauthenticatedError):
        await room.bearer(lost)


async def test_all_others_end_at_once_and_the_one_that_asks_stays(room: Room) -> None:
    await room.add(ANN)
    await room.add(BEN)
    mine, bens = await room.token(ANN), await room.token(BEN)
    others = [await room.token() for _ in range(3)]
    await room.accounts.end_other_sessions(await room.bearer(mine))
    for token in others:
        with pytest.raises(UnauthenticatedError):
            await room.bearer(token)
    await room.bearer(mine)
    await room.bearer(bens)


async def test_somebody_elses_sessions_and_tokens_are_not_there(room: Room) -> None:
    await room.add(ANN)
    await room.add(BEN)
    ann, ben = await room.principal(ANN), await room.principal(BEN)
    token, _ = await room.accounts.add_token(ann, order())
    assert ann.credential is not None
    with pytest.raises(NotFoundError):
        await room.accounts.end_session(ben, ann.credential)
    with pytest.raises(NotFoundError):
        await room.accounts.delete_token(ben, token.id)
    assert (await room.accounts.tokens(ben, EVERYTHING)).items == []
    assert [each.id for each in (await room.accounts.tokens(ann, EVERYTHING)).items] == [token.id]


async def test_a_token_is_told_once_and_kept_as_a_hash(room: Room) -> None:
    await room.add(ANN)
    _, secret = await room.accounts.add_token(await room.principal(), order())
    assert secret.startswith("atl_")
    async with room.database.transaction(SYSTEM, read_only=True) as tx:
        kept = str((await tx.execute(sa.select(api_tokens))).all())
    assert secret not in kept
    assert secret.removeprefix("atl_") not in kept


async def test_a_token_is_good_until_it_is_deleted(room: Room) -> None:
    await room.add(ANN)
    principal = await room.principal()
    token, secret = await room.accounts.add_token(principal, order())
    await room.bearer(secret)
    await room.accounts.delete_token(principal, token.id)
    with pytest.raises(UnauthenticatedError):
        await room.bearer(secret)


async def test_the_last_use_of_a_token_is_noted_at_most_every_minute(room: Room) -> None:
    await room.add(ANN)
    principal = await room.principal()
    _, secret = await room.accounts.add_token(principal, order())

    async def last_used() -> datetime | None:
        return (await room.accounts.tokens(principal, EVERYTHING)).items[0].last_used_at

    assert await last_used() is None
    first = room.clock.now()
    await room.bearer(secret)
    room.clock.tick(59)
    await room.bearer(secret)
    assert await last_used() == first
    room.clock.tick(1)
    await room.bearer(secret)
    assert await last_used() == room.clock.now()


async def test_scopes_are_kept_once_and_in_order(room: Room) -> None:
    await room.add(ANN)
    token, _ = await room.accounts.add_token(
        await room.principal(), order("runs:write", "loras:read", "runs:write")
    )
    assert token.scopes == ["loras:read", "runs:write"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"scopes": []},
        {"scopes": ["runs:delete"]},
        {"scopes": ["*"]},
        {"scopes": ["RUNS:READ"]},
        {"name": ""},
        {"name": "  "},
        {"name": "a\nb"},
        {"name": "x" * 101},
        {"expires_in_days": 0},
        {"expires_in_days": 10**9},
        {"expires_at": "2026-01-01T00:00:00"},
        {"expires_at": "9999-12-31T23:59:59-12:00"},
        {"expires_in_days": 1, "expires_at": "2027-01-01T00:00:00Z"},
        {"owner_id": str(LOCAL.id)},
    ],
)
def test_an_order_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TokenOrder.model_validate({"name": "script", "scopes": ["runs:read"], **wrong})


async def test_a_token_ends_in_the_future(room: Room) -> None:
    await room.add(ANN)
    with pytest.raises(InvalidError) as refusal:
        await room.accounts.add_token(
            await room.principal(), order(expires_at=room.clock.now().isoformat())
        )
    assert refusal.value.code == "expires_in_the_past"
    assert list(refusal.value.details["fields"]) == ["expires_at"]


async def test_the_end_of_a_token_may_be_given_in_any_time_zone(room: Room) -> None:
    await room.add(ANN)
    ends = datetime(2026, 6, 1, tzinfo=timezone(timedelta(hours=5)))
    made, _ = await room.accounts.add_token(
        await room.principal(), order(expires_at=ends.isoformat())
    )
    assert made.expires_at == ends


async def test_a_token_gives_no_scope_that_it_lacks(room: Room) -> None:
    await room.add(ANN)
    _, secret = await room.accounts.add_token(
        await room.principal(), order("tokens:write", "runs:read")
    )
    maker = await room.bearer(secret)
    await room.accounts.add_token(maker, order("runs:read"))
    with pytest.raises(ForbiddenError) as refusal:
        await room.accounts.add_token(maker, order(*SCOPES))
    assert refusal.value.details["scopes"] == sorted(SCOPES - {"tokens:write", "runs:read"})


@pytest.mark.parametrize("days", [None, 8])
async def test_a_token_makes_none_that_outlives_it(room: Room, days: int | None) -> None:
    await room.add(ANN)
    _, secret = await room.accounts.add_token(
        await room.principal(), order("tokens:write", expires_in_days=7)
    )
    maker = await room.bearer(secret)
    await room.accounts.add_token(maker, order("tokens:write", expires_in_days=7))
    with pytest.raises(ForbiddenError) as refusal:
        await room.accounts.add_token(maker, order("tokens:write", expires_in_days=days))
    assert refusal.value.code == "outlives_its_maker"


async def test_an_admin_makes_no_token_that_stands_for_another(room: Room) -> None:
    await room.add(ANN)
    ben = await room.add(BEN)
    acting = await room.bearer(await room.token(), str(ben.id))
    with pytest.raises(ForbiddenError) as refusal:
        await room.accounts.add_token(acting, order())
    assert refusal.value.code == "not_for_others"


async def test_an_admin_can_end_anothers_sessions_and_tokens(room: Room) -> None:
    await room.add(ANN)
    ben = await room.add(BEN)
    bens = await room.token(BEN)
    token, secret = await room.accounts.add_token(await room.bearer(bens), order())
    acting = await room.bearer(await room.token(), str(ben.id))
    await room.accounts.end_other_sessions(acting)
    await room.accounts.delete_token(acting, token.id)
    for gone in (bens, secret):
        with pytest.raises(UnauthenticatedError):
            await room.bearer(gone)


async def test_without_sign_in_there_are_no_sessions_and_tokens(open_room: OpenRoom) -> None:
    room = await open_room("none")
    assert (await room.accounts.sessions(LOCAL, EVERYTHING)).items == []
    assert (await room.accounts.tokens(LOCAL, EVERYTHING)).items == []
    await room.accounts.end_other_sessions(LOCAL)
    with pytest.raises(ConflictError) as refusal:
        await room.accounts.add_token(LOCAL, order())
    assert refusal.value.code == "no_accounts_here"


async def test_a_cursor_of_another_list_is_refused(room: Room) -> None:
    await room.add(ANN)
    with pytest.raises(AtelierError) as refusal:
        await room.accounts.tokens(await room.principal(), PageQuery(cursor="what"))
    assert refusal.value.code == "invalid_cursor"


async def test_quotas_are_the_studios_unless_the_account_has_its_own(room: Room) -> None:
    await room.add(ANN)
    ben = await room.add(BEN)
    principal = await room.principal(BEN)
    assert await room.accounts.quotas_of(principal) == QUOTAS
    await room.users.change(LOCAL, ben.id, UserChange(max_runs=0, max_bytes=5))
    assert await room.accounts.quotas_of(principal) == (0, 5, None, None)
    own = UserChange(max_runs=None, max_loras=2, max_lora_bytes=9)
    await room.users.change(LOCAL, ben.id, own)
    assert await room.accounts.quotas_of(principal) == (QUOTAS.max_runs, 5, 2, 9)


async def test_without_sign_in_the_studios_quotas_hold(open_room: OpenRoom) -> None:
    room = await open_room("none")
    assert await room.accounts.quotas_of(LOCAL) == QUOTAS
    me = await room.accounts.me(LOCAL)
    assert (me.account, me.ways, me.quotas) == (None, ("none",), QUOTAS)

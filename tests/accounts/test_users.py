"""Everybody's accounts: added, changed, disabled at once; never without an admin."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from accounts_room import ANN, BEN, PASSWORD, QUOTAS, OpenRoom, Room
from clock import FakeClock
from pydantic import ValidationError
from sample_graphs import txt2img

from sidecar.accounts.models import Spent, Usage
from sidecar.accounts.store import AccountDirectory
from sidecar.accounts.user_views import UserChange, UserQuery
from sidecar.accounts.users import UserService
from sidecar.accounts.views import TokenOrder
from sidecar.database import Database
from sidecar.database.pages import PageQuery
from sidecar.database.tables import lora_versions, loras, runs, uploads, workflows
from sidecar.errors import ConflictError, InvalidError, NotFoundError, UnauthenticatedError
from sidecar.identity import Identity, Provider
from sidecar.principal import LOCAL, LOCAL_ACCOUNT_ID, SYSTEM, Credentials, Principal, Role
from sidecar.workflows.models import WorkflowOrder, WorkflowQuery
from sidecar.workflows.service import WorkflowService


async def refused(attempt: Awaitable[Any]) -> str:
    with pytest.raises((ConflictError, InvalidError, NotFoundError)) as refusal:
        await attempt
    return refusal.value.code


async def test_the_first_account_is_an_admin_and_the_next_a_member(room: Room) -> None:
    assert (await room.add(ANN)).role is Role.ADMIN
    assert (await room.add(BEN)).role is Role.MEMBER


async def test_the_role_may_be_chosen(room: Room) -> None:
    assert (await room.add(ANN, role=Role.MEMBER)).role is Role.MEMBER
    assert (await room.add(BEN, role=Role.ADMIN)).role is Role.ADMIN


async def test_the_first_account_owns_what_was_made_before_accounts_were_on(
    room: Room, clock: FakeClock
) -> None:
    service = WorkflowService(room.database, clock, uuid4)
    order = WorkflowOrder.model_validate({"name": "cat", "workflow_json": txt2img()})
    await service.add(LOCAL, order)
    await room.add(ANN)
    await room.add(BEN)
    counts = [
        len((await service.page(await room.principal(email), WorkflowQuery())).items)
        for email in (ANN, BEN)
    ]
    assert counts == [1, 0]


async def test_who_was_seen_before_does_not_take_the_first_accounts_place(
    open_room: OpenRoom,
) -> None:
    room = await open_room("cloudflare")
    stranger = room.cloudflare.issue(Identity(Provider.CLOUDFLARE, "a-subject", BEN))
    await room.authentication.authenticate(Credentials(assertion=stranger))
    account = await room.users.add(ANN)
    assert (account.id, account.role) == (LOCAL_ACCOUNT_ID, Role.ADMIN)


async def test_two_first_accounts_at_once_are_two_accounts(room: Room) -> None:
    made = await asyncio.gather(room.users.add(ANN), room.users.add(BEN))
    assert LOCAL_ACCOUNT_ID in {account.id for account in made}
    assert len({account.id for account in made}) == 2


async def test_an_email_is_one_account_however_it_is_written(room: Room) -> None:
    await room.add(ANN)
    assert await refused(room.users.add(" ANN@example.ORG ")) == "email_taken"


@pytest.mark.parametrize(
    "email", ["", "ann", "@example.org", "ann@", "a b@example.org", "a@b@c", "a\0@b", "a@\udcff"]
)
async def test_what_is_no_email_is_refused(room: Room, email: str) -> None:
    assert await refused(room.users.add(email)) == "invalid_email"


async def test_an_email_as_long_as_a_book_is_refused(room: Room) -> None:
    assert await refused(room.users.add("a" * 250 + "@b.org")) == "invalid_email"


async def test_a_user_of_supabase_is_one_account(room: Room) -> None:
    ann, ben = await room.users.add(ANN, supabase_id=UUID(int=5)), await room.add(BEN)
    third = room.users.add("cy@example.org", supabase_id=UUID(int=5))
    assert await refused(third) == "supabase_id_taken"
    assert await refused(room.users.link(ben.id, UUID(int=5))) == "supabase_id_taken"
    await room.users.link(ann.id, UUID(int=5))


async def test_an_account_is_found_by_email_or_id(room: Room) -> None:
    account = await room.add(ANN)
    assert (await room.users.named("ANN@example.org")).id == account.id
    assert (await room.users.named(str(account.id))).id == account.id
    assert await refused(room.users.named(BEN)) == "account_not_found"
    assert await refused(room.users.get(uuid4())) == "account_not_found"
    assert await refused(room.users.change(LOCAL, uuid4(), UserChange())) == "account_not_found"


async def test_a_new_password_ends_every_session(room: Room) -> None:
    account = await room.add(ANN)
    token = await room.token()
    await room.users.set_password(account.id, "another password")
    with pytest.raises(UnauthenticatedError):
        await room.bearer(token)
    with pytest.raises(UnauthenticatedError):
        await room.sign_in(ANN, PASSWORD)
    await room.sign_in(ANN, "another password")


async def test_disabling_ends_sessions_and_tokens_at_once_and_tells_the_others(
    room: Room,
) -> None:
    await room.add(ANN)
    ben = await room.add(BEN)
    session = await room.token(BEN)
    order = TokenOrder.model_validate({"name": "x", "scopes": ["runs:read"]})
    _, token = await room.accounts.add_token(await room.bearer(session), order)
    user = await room.users.change(await room.principal(), ben.id, UserChange(disabled=True))
    assert user.account.disabled_at == room.clock.now()
    assert room.disabled == [ben.id]
    for gone in (session, token):
        with pytest.raises(UnauthenticatedError):
            await room.bearer(gone)


async def test_enabling_lets_in_again_but_brings_nothing_back(room: Room) -> None:
    await room.add(ANN)
    ben = await room.add(BEN)
    session = await room.token(BEN)
    await room.users.change(LOCAL, ben.id, UserChange(disabled=True))
    await room.users.change(LOCAL, ben.id, UserChange(disabled=False))
    with pytest.raises(UnauthenticatedError):
        await room.bearer(session)
    await room.bearer(await room.token(BEN))


async def test_a_token_made_while_its_account_was_being_disabled_stays_dead(room: Room) -> None:
    await room.add(ANN)
    ben = await room.add(BEN)
    principal = await room.principal(BEN)
    await room.users.change(LOCAL, ben.id, UserChange(disabled=True))
    order = TokenOrder.model_validate({"name": "x", "scopes": ["runs:read"]})
    _, token = await room.accounts.add_token(principal, order)
    with pytest.raises(UnauthenticatedError, match="disabled"):
        await room.bearer(token)
    await room.users.change(LOCAL, ben.id, UserChange(disabled=False))
    with pytest.raises(UnauthenticatedError):
        await room.bearer(token)


async def test_disabling_again_tells_again_and_keeps_the_moment(room: Room) -> None:
    await room.add(ANN)
    ben = await room.add(BEN)
    first = await room.users.change(LOCAL, ben.id, UserChange(disabled=True))
    room.clock.tick()
    again = await room.users.change(LOCAL, ben.id, UserChange(disabled=True))
    assert again.account.disabled_at == first.account.disabled_at
    assert room.disabled == [ben.id, ben.id]


async def test_before_an_account_is_enabled_the_others_are_told_once_more(room: Room) -> None:
    await room.add(ANN)
    ben = await room.add(BEN)
    await room.users.change(LOCAL, ben.id, UserChange(disabled=False))
    assert room.disabled == []
    enabled_when_told: list[bool] = []

    async def look(account: UUID) -> None:
        enabled_when_told.append((await room.users.get(account)).account.is_enabled)

    users = UserService(
        room.database,
        room.clock,
        uuid4,
        room.passwords,
        ways=["local"],
        quotas=QUOTAS,
        on_disabled=[look],
    )
    await users.change(LOCAL, ben.id, UserChange(disabled=True))
    user = await users.change(LOCAL, ben.id, UserChange(disabled=False))
    assert user.account.is_enabled
    assert enabled_when_told == [False, False]


@pytest.mark.parametrize(
    "change",
    [
        {"max_runs": True},
        {"max_runs": "1_0"},
        {"max_bytes": " 3 "},
        {"max_bytes": 3.0},
        {"disabled": "yes"},
        {"disabled": 0},
        {"role": "Admin"},
    ],
)
def test_what_only_looks_like_a_number_or_a_truth_changes_nobody(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        UserChange.model_validate(change)


async def test_one_who_fails_to_hear_keeps_no_other_from_hearing(room: Room) -> None:
    await room.add(ANN)
    ben = await room.add(BEN)
    heard: list[UUID] = []
    ears: list[Callable[[UUID], Awaitable[None]]] = []
    users = UserService(
        room.database,
        room.clock,
        uuid4,
        room.passwords,
        ways=["local"],
        quotas=QUOTAS,
        on_disabled=ears,
    )

    async def deaf(_account: UUID) -> None:
        raise RuntimeError("deaf")

    async def hears(account: UUID) -> None:
        heard.append(account)

    ears += [deaf, hears]
    with pytest.raises(RuntimeError, match="deaf"):
        await users.change(LOCAL, ben.id, UserChange(disabled=True))
    assert heard == [ben.id]
    assert not (await users.get(ben.id)).account.is_enabled


@pytest.mark.parametrize("change", [UserChange(role="member"), UserChange(disabled=True)])
async def test_the_last_enabled_admin_stays_one(room: Room, change: UserChange) -> None:
    ann = await room.add(ANN)
    ben = await room.add(BEN, role=Role.ADMIN)
    await room.users.change(LOCAL, ben.id, UserChange(disabled=True))
    assert await refused(room.users.change(LOCAL, ann.id, change)) == "last_admin"
    assert (await room.users.get(ann.id)).account.role is Role.ADMIN
    assert room.disabled == [ben.id]


async def test_of_two_admins_who_leave_at_once_one_stays(room: Room) -> None:
    ann, ben = await room.add(ANN), await room.add(BEN, role=Role.ADMIN)
    outcomes = await asyncio.gather(
        room.users.change(LOCAL, ann.id, UserChange(role="member")),
        room.users.change(LOCAL, ben.id, UserChange(disabled=True)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, ConflictError) for outcome in outcomes) == 1
    left = [(await room.users.get(account.id)).account for account in (ann, ben)]
    assert sum(each.is_enabled and each.role is Role.ADMIN for each in left) == 1


async def test_who_leaves_while_the_other_admin_is_leaving_waits_and_then_stays(
    room: Room,
) -> None:
    ann, ben = await room.add(ANN), await room.add(BEN, role=Role.ADMIN)
    async with room.database.transaction(SYSTEM) as tx:
        directory = AccountDirectory(tx)
        assert await directory.enabled_admins() == {ann.id, ben.id}
        leaving = asyncio.ensure_future(room.users.change(LOCAL, ben.id, UserChange(role="member")))
        await asyncio.wait({leaving}, timeout=0.5)
        await directory.save(replace(ann, role=Role.MEMBER))
    assert await refused(leaving) == "last_admin"


async def test_the_last_admins_other_things_can_be_changed(room: Room) -> None:
    ann = await room.add(ANN)
    user = await room.users.change(LOCAL, ann.id, UserChange(role="admin", max_runs=3))
    assert user.quotas == QUOTAS._replace(max_runs=3)


async def test_changes_are_logged_with_who_made_them(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    await room.add(ANN)
    ben = await room.add(BEN)
    admin = await room.principal()
    caplog.set_level(logging.INFO, "sidecar")
    await room.users.change(admin, ben.id, UserChange(role="admin", max_runs=None))
    (line,) = [vars(each) for each in caplog.records if each.message == "account.changed"]
    assert (line["account"], line["by"]) == (str(ben.id), str(admin.id))
    assert line["what"] == {"role": "admin", "max_runs": None}


async def add_things(database: Database, clock: FakeClock, owner: Principal) -> None:
    """A workflow and a deleted one; a LoRA of two versions, one damaged; three runs; two uploads,
    one of which failed."""
    now = clock.now()
    of_all = {"owner_id": owner.id, "created_at": now}
    lora_id = uuid4()
    async with database.transaction(owner) as tx:
        for name, deleted in (("a", None), ("b", now)):
            values = of_all | {"id": uuid4(), "name": name, "tags": [], "head_version": 1}
            await tx.execute(
                workflows.insert().values(values | {"updated_at": now, "deleted_at": deleted})
            )
        lora = of_all | {"id": lora_id, "name": "l", "stem": "l", "tags": [], "trigger_words": []}
        await tx.execute(loras.insert().values(lora | {"head_version": 1, "updated_at": now}))
        for version, state, size in ((1, "stored", 700), (2, "damaged", 60)):
            values = of_all | {"lora_id": lora_id, "version": version, "state": state}
            values |= {"bytes": size, "sha256": "", "autov3": "", "source": ""}
            values |= {"object_key": str(version), "filename": str(version)}
            await tx.execute(lora_versions.insert().values(values | {"metadata": {}}))
        for state in ("receiving", "failed"):
            values = of_all | {"id": uuid4(), "worker_id": "w", "length": 5, "metadata": {}}
            await tx.execute(uploads.insert().values(values | {"state": state, "expires_at": now}))
        for status in ("queued", "running", "succeeded"):
            values = of_all | {"id": uuid4(), "source": "api", "status": status}
            values |= {"input_params": {}, "prompt": {}, "extra_data": {}}
            await tx.execute(runs.insert().values(values | {"loras": [], "outputs": []}))


USED = Usage(unfinished_runs=2, runs=3, workflows=1, loras=1, lora_bytes=760)


async def test_admins_see_what_each_uses(room: Room, clock: FakeClock) -> None:
    await room.add(ANN)
    ben = await room.add(BEN)
    await add_things(room.database, clock, await room.principal(BEN))
    listed = (await room.users.page(UserQuery())).items
    assert [(user.account.email, user.usage) for user in listed] == [(BEN, USED), (ANN, Usage())]
    assert (await room.users.get(ben.id)).usage == USED


async def test_everybody_sees_how_much_of_the_quotas_is_used(room: Room, clock: FakeClock) -> None:
    await room.add(ANN)
    await room.add(BEN)
    await add_things(room.database, clock, await room.principal(BEN))
    spent = [(await room.accounts.me(await room.principal(email))).spent for email in (ANN, BEN)]
    assert spent == [Spent(), Spent(unfinished_runs=2, lora_bytes=765, loras=1)]


async def test_accounts_come_in_pages_newest_first_and_are_found_by_email(room: Room) -> None:
    for number in range(5):
        await room.add(f"user{number}@example.org")
    await room.add("100%_sure@example.org")
    first = await room.users.page(UserQuery(limit=4))
    rest = await room.users.page(UserQuery(limit=4, cursor=first.next_cursor))
    assert len(first.items) + len(rest.items) == 6
    assert rest.next_cursor is None
    found = await room.users.page(UserQuery(q="%_S"))
    assert [user.account.email for user in found.items] == ["100%_sure@example.org"]


async def test_an_account_that_acts_for_another_lists_that_ones_sessions(room: Room) -> None:
    await room.add(ANN)
    ben = await room.add(BEN)
    await room.token(BEN)
    acting = await room.bearer(await room.token(), str(ben.id))
    assert len((await room.accounts.sessions(acting, PageQuery())).items) == 1

"""``users`` on the command line."""

import argparse
import getpass
import io
from uuid import UUID

import pytest
from accounts_room import ANN, BEN, PASSWORD, OpenRoom, Room

from sidecar.commands import users as command
from sidecar.database.pages import PageQuery
from sidecar.errors import AtelierError, ConflictError, InvalidError, NotFoundError
from sidecar.identity import Identity, Provider
from sidecar.principal import LOCAL_ACCOUNT_ID, Role

SUPABASE_ID = UUID("6f1c9a51-0d6b-4a3a-9a54-9a6a3f1d2c11")


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_to(parser.add_subparsers(dest="command"))
    return parser.parse_args(["users", *arguments])


async def said(room: Room, *arguments: str) -> str:
    """What the command says."""
    out = io.StringIO()
    await command.change(parsed(*arguments), room.users, out)
    return out.getvalue()


class Terminal(io.StringIO):
    """Standard input at which somebody sits."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nobody sits there, and the password comes with a line's end."""
    monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD + "\n"))
    return monkeypatch


def typed(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """Somebody sits at the terminal and types these passwords."""
    waiting = list(answers)
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", lambda _prompt: waiting.pop(0))


@pytest.mark.usefixtures("stdin")
async def test_the_first_account_is_the_admin_and_takes_over(room: Room) -> None:
    text = await said(room, "add", "Ann@Example.org", "--password-stdin")
    assert text == (
        f"Added {ANN} (admin). All that was made before accounts were on belongs to it.\n"
    )
    assert (await room.sign_in()).account.id == LOCAL_ACCOUNT_ID


async def test_a_password_is_asked_for_twice_on_a_terminal(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, PASSWORD, PASSWORD)
    assert PASSWORD not in await said(room, "add", ANN, "--role", "member")
    assert (await room.sign_in()).account.role is Role.MEMBER


async def test_two_different_passwords_add_nobody(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, PASSWORD, PASSWORD + "?")
    with pytest.raises(InvalidError, match="differ"):
        await said(room, "add", ANN)
    with pytest.raises(NotFoundError):
        await room.users.named(ANN)


@pytest.mark.usefixtures("stdin")
async def test_without_a_terminal_the_password_comes_from_standard_input_or_not_at_all(
    room: Room,
) -> None:
    with pytest.raises(InvalidError, match="--password-stdin"):
        await said(room, "add", ANN)


async def test_bytes_that_are_no_text_are_no_password(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe" * 8), "utf-8"))
    with pytest.raises(InvalidError, match="could be read"):
        await said(room, "add", ANN, "--password-stdin")


async def test_a_short_password_adds_nobody(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    with pytest.raises(InvalidError, match="10 to 1024"):
        await said(room, "add", ANN, "--password-stdin")
    with pytest.raises(NotFoundError):
        await room.users.named(ANN)


@pytest.mark.usefixtures("stdin")
async def test_where_nobody_has_a_password_here_none_is_asked_for(open_room: OpenRoom) -> None:
    room = await open_room("supabase")
    assert "Added" in await said(room, "add", ANN, "--supabase-id", str(SUPABASE_ID))
    assert "Added" in await said(room, "add", BEN)
    assert (await room.users.named(ANN)).supabase_id == SUPABASE_ID


@pytest.mark.usefixtures("stdin")
async def test_before_accounts_are_on_it_says_how_to_turn_them_on(open_room: OpenRoom) -> None:
    room = await open_room("none")
    assert "ATELIER_AUTH=local" in await said(room, "add", ANN, "--password-stdin")


@pytest.mark.usefixtures("stdin")
async def test_an_email_that_is_taken_adds_nobody(room: Room) -> None:
    await room.add(ANN)
    with pytest.raises(ConflictError, match=f"the e-mail {ANN}"):
        await said(room, "add", ANN, "--password-stdin")


async def test_every_account_is_listed(room: Room) -> None:
    await room.add(ANN)
    await room.add(BEN)
    await said(room, "disable", BEN)
    head, ben, ann = (await said(room, "list")).splitlines()
    assert head.split()[:3] == ["E-MAIL", "ROLE", "STATE"]
    assert ben.split()[:3] == [BEN, "member", "disabled"]
    assert ann.split()[:3] == [ANN, "admin", "enabled"]
    assert ann.endswith(str(LOCAL_ACCOUNT_ID))


async def test_what_supabase_says_is_listed_as_that_and_names_nobody(open_room: OpenRoom) -> None:
    room = await open_room("supabase")
    identity = Identity(Provider.SUPABASE, str(SUPABASE_ID), BEN)
    seen = await room.bearer(room.supabase_tokens.issue(identity))
    _, line = (await said(room, "list")).splitlines()
    assert line.startswith(f"({BEN} in Supabase)  member")
    assert line.endswith(str(seen.id))
    with pytest.raises(NotFoundError):
        await said(room, "role", BEN, "admin")
    assert await said(room, "role", str(seen.id), "admin") == f"{seen.id} is admin now.\n"


async def test_an_empty_studio_has_nobody_to_list(room: Room) -> None:
    assert len((await said(room, "list")).splitlines()) == 1


async def test_role_disable_enable_and_link_change_the_account(room: Room) -> None:
    await room.add(ANN)
    ben = await room.add(BEN)
    assert await said(room, "role", BEN, "admin") == f"{BEN} is admin now.\n"
    assert (await room.users.named(BEN)).role is Role.ADMIN
    assert "disabled" in await said(room, "disable", str(ben.id))
    assert room.disabled == [ben.id]
    assert await said(room, "enable", BEN) == f"{BEN} is enabled.\n"
    assert (await room.users.named(BEN)).is_enabled
    assert str(SUPABASE_ID) in await said(room, "link", BEN, "--supabase-id", str(SUPABASE_ID))
    assert (await room.users.named(BEN)).supabase_id == SUPABASE_ID


async def test_the_last_admin_stays_one(room: Room) -> None:
    await room.add(ANN)
    for arguments in (("role", ANN, "member"), ("disable", ANN)):
        with pytest.raises(ConflictError, match="last admin"):
            await said(room, *arguments)


async def test_a_new_password_ends_the_sessions(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    await room.add(ANN)
    await room.token()
    monkeypatch.setattr("sys.stdin", io.StringIO("another password\r\n"))
    assert "sessions have ended" in await said(room, "passwd", ANN, "--password-stdin")
    signed_in = await room.sign_in(ANN, "another password")
    principal = await room.bearer(str(signed_in.access_token))
    assert len((await room.accounts.sessions(principal, PageQuery())).items) == 1


@pytest.mark.usefixtures("stdin")
@pytest.mark.parametrize(
    "arguments",
    [
        ("role", "admin"),
        ("disable",),
        ("enable",),
        ("passwd", "--password-stdin"),
        ("link", "--supabase-id", str(SUPABASE_ID)),
    ],
)
async def test_somebody_who_is_not_there_cannot_be_changed(
    room: Room, arguments: tuple[str, ...]
) -> None:
    name, *more = arguments
    with pytest.raises(AtelierError) as refusal:
        await said(room, name, "nobody@example.org", *more)
    assert refusal.value.code == "account_not_found"
    assert "\n" not in refusal.value.message


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("add",),
        ("role", ANN, "system"),
        ("add", ANN, "--supabase-id", "x"),
        ("link", ANN),
        ("delete", ANN),
    ],
)
def test_what_cannot_be_understood_is_refused(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refusal:
        parsed(*arguments)
    assert refusal.value.code == 2
    assert "usage:" in capsys.readouterr().err

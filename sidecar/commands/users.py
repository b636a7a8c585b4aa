"""``python -m sidecar users``: accounts from the command line, also while a sidecar serves."""

import argparse
import getpass
import sys
from typing import TYPE_CHECKING, TextIO
from uuid import UUID

from ..accounts.models import NO_SIGN_IN, Account
from ..accounts.user_views import UserChange, UserQuery
from ..accounts.users import UserService
from ..accounts_room import opened_accounts
from ..clock import SystemClock, new_id
from ..errors import InvalidError
from ..outside import Providers, migrate_as_configured, opened_database
from ..principal import LOCAL_ACCOUNT_ID, SYSTEM, Role
from ..runs.feed import RunFeed
from ..runs.journal import RunJournal
from ..settings import Settings

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

PASSWORD_WAYS = ("local", "none")
"""Where an account without a password could not sign in, now or once ``local`` is on."""


def add_to(commands: "Commands") -> None:
    """Add ``users`` and what it can do to a parser's commands."""
    users = commands.add_parser("users", help="add, list and change accounts")
    what = users.add_subparsers(dest="users_command", required=True, metavar="COMMAND")

    added = what.add_parser("add", help="add an account; the first owns all that was made before")
    added.add_argument("email", metavar="EMAIL")
    added.add_argument("--role", choices=("admin", "member"), help="the first is an admin")
    _add_password(added)
    added.add_argument("--supabase-id", metavar="UUID", type=UUID, help="who it is in Supabase")

    what.add_parser("list", help="list accounts, newest first")
    for name, text in (
        ("role", "make an account an admin or a member"),
        ("disable", "end its sessions, tokens and runs, and let it in no more"),
        ("enable", "let it in again"),
        ("passwd", "set its password, and end its sessions"),
        ("link", "let a user of Supabase be this account"),
    ):
        command = what.add_parser(name, help=text)
        command.add_argument("email", metavar="EMAIL", help="its e-mail, or its id")
        if name == "role":
            command.add_argument("role", choices=("admin", "member"))
        elif name == "passwd":
            _add_password(command)
        elif name == "link":
            command.add_argument("--supabase-id", metavar="UUID", type=UUID, required=True)


async def run(asked: argparse.Namespace, settings: Settings, out: TextIO) -> int:
    """Do what was asked in the studio of these settings, also while a sidecar serves it."""
    if settings.postgres_url is None:
        settings.database_file.parent.mkdir(parents=True, exist_ok=True)
    await migrate_as_configured(settings)
    clock = SystemClock()
    async with opened_database(settings) as database:
        journal = RunJournal(database, RunFeed(), clock, lambda: None)
        async with opened_accounts(
            settings, database, Providers(), clock, new_id, [journal.cancel_all]
        ) as room:
            await change(asked, room.users, out)
    return 0


async def change(asked: argparse.Namespace, users: UserService, out: TextIO) -> None:
    """Do what was asked, and say so in a line. Raises what ``UserService`` raises, and
    InvalidError("no_password")."""
    match asked.users_command:
        case "add":
            said = await _add(asked, users)
        case "list":
            said = await _listed(users)
        case "passwd":
            account = await users.named(asked.email)
            await users.set_password(account.id, _password(asked))
            said = f"{_name(account)} has a new password; its sessions have ended."
        case "link":
            account = await users.named(asked.email)
            await users.link(account.id, asked.supabase_id)
            said = f"{_name(account)} is {asked.supabase_id} in Supabase."
        case _:
            said = await _change(asked, users)
    out.write(said + "\n")


async def _add(asked: argparse.Namespace, users: UserService) -> str:
    needs_password = asked.supabase_id is None and not set(users.ways).isdisjoint(PASSWORD_WAYS)
    account = await users.add(
        asked.email,
        role=None if asked.role is None else Role(asked.role),
        password=_password(asked) if needs_password or asked.password_stdin else None,
        supabase_id=asked.supabase_id,
    )
    said = f"Added {_name(account)} ({account.role.value})."
    if account.id == LOCAL_ACCOUNT_ID:
        said += " All that was made before accounts were on belongs to it."
    if users.ways == NO_SIGN_IN:
        said += " Nobody signs in yet: set ATELIER_AUTH=local."
    return said


async def _change(asked: argparse.Namespace, users: UserService) -> str:
    account = await users.named(asked.email)
    match asked.users_command:
        case "role":
            change, now = UserChange(role=asked.role), f"is {asked.role} now"
        case "disable":
            change, now = UserChange(disabled=True), "is disabled; its sessions and tokens are gone"
        case _:
            change, now = UserChange(disabled=False), "is enabled"
    await users.change(SYSTEM, account.id, change)
    return f"{_name(account)} {now}."


async def _listed(users: UserService) -> str:
    rows = [("E-MAIL", "ROLE", "STATE", "RUNS", "WORKFLOWS", "LORAS", "ADDED", "ID")]
    asked = UserQuery(limit=200)
    while True:
        page = await users.page(asked)
        for user in page.items:
            account, usage = user.account, user.usage
            rows.append(
                (
                    account.email or _by_supabase(account),
                    account.role.value,
                    "enabled" if account.is_enabled else "disabled",
                    str(usage.runs),
                    str(usage.workflows),
                    str(usage.loras),
                    account.created_at.date().isoformat(),
                    str(account.id),
                )
            )
        if page.next_cursor is None:
            break
        asked = UserQuery(limit=200, cursor=page.next_cursor)
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def _add_password(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--password-stdin",
        action="store_true",
        help="read the password from standard input instead of asking for it",
    )


def _password(asked: argparse.Namespace) -> str:
    """From standard input, or asked for twice on a terminal. InvalidError("no_password")."""
    try:
        return _read() if asked.password_stdin else _ask()
    except (EOFError, UnicodeDecodeError):
        raise InvalidError(
            "no_password", "No password could be read; nothing was changed."
        ) from None


def _read() -> str:
    return sys.stdin.read().removesuffix("\n").removesuffix("\r")


def _ask() -> str:
    if not sys.stdin.isatty():
        raise InvalidError(
            "no_password", "There is no terminal to ask for a password on: use --password-stdin."
        )
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise InvalidError("no_password", "The two passwords differ; nothing was changed.")
    return password


def _by_supabase(account: Account) -> str:
    """Not as one that was proved, and by which the other commands would find it."""
    return "-" if account.supabase_email is None else f"({account.supabase_email} in Supabase)"


def _name(account: Account) -> str:
    return account.email or str(account.id)

"""Values of the accounts room."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple, get_args
from uuid import UUID

from ..errors import InvalidError
from ..principal import Role, normal_email

Scope = Literal[
    "workflows:read",
    "workflows:write",
    "loras:read",
    "loras:write",
    "runs:read",
    "runs:write",
    "auth:read",
    "auth:write",
    "tokens:read",
    "tokens:write",
    "sessions:read",
    "sessions:write",
    "users:read",
    "users:write",
]
SCOPES: frozenset[str] = frozenset(get_args(Scope))
"""All that an API token can be good for."""

NO_SIGN_IN = ("none",)
"""The ways to sign in of a studio in which everyone is one account."""


_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


def new_email(text: str) -> str:
    """The e-mail address of a new account, as it is stored. InvalidError("invalid_email")."""
    email = normal_email(text)
    if len(email) > 254 or not email.isprintable() or _EMAIL.fullmatch(email) is None:
        raise InvalidError(
            "invalid_email",
            "An e-mail address looks like name@example.org.",
            {"fields": {"email": "expected name@example.org"}},
        )
    return email


@dataclass(frozen=True)
class Account:
    """Somebody. E-mails as ``normal_email`` has them; quotas of None are the studio's.

    ``email`` is one that an admin gave or Cloudflare Access checked. What Supabase says
    (``supabase_email``) may be anybody's: it is shown, and nobody is ever found by it.
    """

    id: UUID
    email: str | None
    role: Role
    created_at: datetime
    supabase_id: UUID | None = None
    supabase_email: str | None = None
    max_runs: int | None = None
    max_bytes: int | None = None
    max_loras: int | None = None
    max_lora_bytes: int | None = None
    seen_at: datetime | None = None
    disabled_at: datetime | None = None

    @property
    def shown_email(self) -> str | None:
        """What people recognize it by."""
        return self.email or self.supabase_email

    @property
    def is_enabled(self) -> bool:
        """Whether it may do anything at all."""
        return self.disabled_at is None


@dataclass(frozen=True)
class Session:
    """A signed-in browser or client. It ends at ``expires_at``, which moves when it is used."""

    id: UUID
    user_agent: str
    address: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class ApiToken:
    """A personal token for scripts, good for its scopes alone."""

    id: UUID
    name: str
    scopes: Sequence[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = None


@dataclass(frozen=True)
class Holder:
    """Whom a session or API token belongs to.

    ``scopes`` None: a session. ``has_password``: whether the account has one of our own.
    """

    account: Account
    credential: UUID
    used_at: datetime | None
    expires_at: datetime | None
    scopes: frozenset[str] | None = None
    has_password: bool = False

    def is_over(self, at: datetime) -> bool:
        """Whether it had ended by then."""
        return self.expires_at is not None and self.expires_at <= at


@dataclass(frozen=True)
class SignedIn:
    """What signing in, or staying so, gave.

    ``session_token`` is what the browser's cookie is to hold; None: the cookie stays as it is.
    ``access_token`` None: the session was shown by cookie, which no script may read.
    """

    account: Account
    expires_at: datetime
    access_token: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)


class Quotas(NamedTuple):
    """How many unfinished runs an account may have, how many LoRA bytes and LoRAs it may keep, and
    how many bytes a LoRA's file may have. None: no limit."""

    max_runs: int
    max_bytes: int | None
    max_loras: int | None = None
    max_lora_bytes: int | None = None

    def of(self, account: Account | None) -> "Quotas":
        """Those of an account, where these are the studio's."""
        if account is None:
            return self
        own = {name: getattr(account, name) for name in self._fields}
        return self._replace(**{name: value for name, value in own.items() if value is not None})


@dataclass(frozen=True)
class Spent:
    """What counts against the quotas. Bytes of unfinished uploads count as well."""

    unfinished_runs: int = 0
    lora_bytes: int = 0
    loras: int = 0


@dataclass(frozen=True)
class Usage:
    """What an account has."""

    unfinished_runs: int = 0
    runs: int = 0
    workflows: int = 0
    loras: int = 0
    lora_bytes: int = 0


@dataclass(frozen=True)
class Me:
    """Who is asking, how one signs in here, and how much is used. Without sign-in no account."""

    account: Account | None
    ways: Sequence[str]
    quotas: Quotas
    spent: Spent


@dataclass(frozen=True)
class User:
    """An account as admins see it; the quotas are those that hold for it."""

    account: Account
    usage: Usage
    quotas: Quotas

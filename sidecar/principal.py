"""Who is asking: the value that comes first in every use-case, and what it was learned from."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from uuid import UUID

LOCAL_ACCOUNT_ID = UUID("00000000-0000-4000-8000-000000000001")
"""The one account of a studio without sign-in (``ATELIER_AUTH=none``).

The first account that is added takes it, and with it everything that was made before.
"""


class Role(str, Enum):
    """What a principal may do beyond its own things."""

    MEMBER = "member"
    ADMIN = "admin"
    SYSTEM = "system"


@dataclass(frozen=True)
class Principal:
    """An authenticated caller. ``id`` is the account that owns what it makes."""

    id: UUID
    role: Role = Role.MEMBER
    scopes: frozenset[str] | None = None
    """What the API token that was shown may be used for; None: whatever the account may do."""
    credential: UUID | None = None
    """The session or API token that was shown; None for what is not ours to revoke."""
    acting: UUID | None = None
    """The admin who asked for this account's things, explicitly."""
    good_until: datetime | None = None
    """When somebody else's word for it ends; None for what we can revoke ourselves."""

    @property
    def folder(self) -> str:
        """The folder name that holds this account's files, on disk and in blobs."""
        return f"user-{self.id}"

    def may(self, scope: str) -> bool:
        """Whether what was shown is good for this: ``runs:write``, ``loras:read``, ..."""
        return self.scopes is None or scope in self.scopes


@dataclass(frozen=True)
class Credentials:
    """What a request shows of who is asking. Nothing in here has been checked."""

    bearer: str | None = None
    """``Authorization: Bearer``: an API token, a session's token, or a JWT."""
    cookie: str | None = None
    """The session's token, from the cookie."""
    assertion: str | None = None
    """``Cf-Access-Jwt-Assertion``, which Cloudflare Access puts on every request."""
    acting_for: str | None = None
    """``X-Atelier-As``: the account whose things an admin asks for."""

    @property
    def are_there(self) -> bool:
        """Whether anything was shown."""
        return any((self.bearer, self.cookie, self.assertion))


LOCAL = Principal(LOCAL_ACCOUNT_ID, Role.ADMIN)
"""Everyone, while no sign-in is configured."""

SYSTEM = Principal(UUID(int=0), Role.SYSTEM)
"""The sidecar itself: sign-in, the queue and the sweeps, the only work across accounts."""


def normal_email(email: str) -> str:
    """An e-mail address as it is stored and compared.

    Only ASCII letters lose their case: whole Unicode would make one address of two (the Kelvin sign
    is ``k`` in lower case), and let the owner of one in as the other.
    """
    return "".join(letter.lower() if letter.isascii() else letter for letter in email.strip())

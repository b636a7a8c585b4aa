"""Who is asking: the value that comes first in every use-case."""

from dataclasses import dataclass
from enum import Enum
from uuid import UUID

LOCAL_ACCOUNT_ID = UUID("00000000-0000-4000-8000-000000000001")
"""The one account of a studio without sign-in (``ATELIER_AUTH=none``)."""


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

    @property
    def folder(self) -> str:
        """The folder name that holds this account's files, on disk and in blobs."""
        return f"user-{self.id}"


LOCAL = Principal(LOCAL_ACCOUNT_ID, Role.ADMIN)
"""Everyone, while no sign-in is configured."""

SYSTEM = Principal(UUID(int=0), Role.SYSTEM)
"""The sidecar itself: the queue and the sweeps, the only work that looks across accounts."""

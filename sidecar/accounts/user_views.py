"""What the routes for admins take and answer."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from ..database.pages import Page, PageQuery
from .models import User
from .views import AccountView


class UserQuery(PageQuery):
    """What ``GET /users`` takes. ``q`` is searched for in e-mail addresses."""

    q: Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00]*$")] | None = None


class UserChange(BaseModel):
    """What ``PATCH /users/{id}`` takes; what is left out stays, a quota of null is the studio's."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["admin", "member"] | None = None
    disabled: bool | None = None
    max_runs: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    max_bytes: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    max_loras: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    max_lora_bytes: Annotated[int, Field(ge=0, lt=2**63)] | None = None

    @model_validator(mode="after")
    def _null_clears_quotas_alone(self) -> "UserChange":
        for name in ("role", "disabled"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise ValueError(f"{name} cannot be null")
        return self


class UsageView(BaseModel):
    """What an account has."""

    unfinished_runs: int
    runs: int
    workflows: int
    loras: int
    lora_bytes: int


class UserView(AccountView):
    """An account as admins see it. What begins with ``max_`` are its own quotas; null: the
    studio's. ``quotas`` are those that hold. ``supabase_email`` is what Supabase says, which nobody
    may have proved."""

    supabase_id: UUID | None
    supabase_email: str | None
    disabled: bool
    created_at: datetime
    seen_at: datetime | None
    disabled_at: datetime | None
    max_runs: int | None
    max_bytes: int | None
    max_loras: int | None
    max_lora_bytes: int | None
    quotas: dict[str, int | None]
    usage: UsageView

    @classmethod
    def of_user(cls, user: User) -> "UserView":
        """Show an account to an admin."""
        account = user.account
        return cls.model_validate(
            asdict(account)
            | {
                "email": account.shown_email,
                "disabled": not account.is_enabled,
                "quotas": user.quotas._asdict(),
                "usage": asdict(user.usage),
            }
        )


class UserList(BaseModel):
    """A page of accounts."""

    items: list[UserView]
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[User]) -> "UserList":
        """The page as an answer."""
        items = [UserView.of_user(user) for user in page.items]
        return cls(items=items, next_cursor=page.next_cursor)

"""What the routes of accounts take and answer."""

from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from typing import Annotated
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    model_validator,
)

from ..database.pages import Page
from ..principal import LOCAL, Principal
from .models import Account, ApiToken, Me, Scope, Session, SignedIn
from .passwords import MAX_LENGTH

MAX_DAYS = 3650

Line = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$"
    ),
]


def _in_utc(moment: datetime) -> datetime:
    """What no database holds in UTC is refused here."""
    try:
        return moment.astimezone(timezone.utc)
    except OverflowError:
        raise ValueError("no such moment in UTC") from None


class SignInOrder(BaseModel):
    """What ``POST /auth/login`` takes."""

    model_config = ConfigDict(extra="forbid")

    email: Annotated[str, Field(min_length=1, max_length=254)]
    password: Annotated[SecretStr, Field(min_length=1, max_length=MAX_LENGTH)]


class RefreshOrder(BaseModel):
    """What ``POST /auth/refresh`` takes: Supabase's refresh token, or nothing for a session."""

    model_config = ConfigDict(extra="forbid")

    refresh_token: Annotated[SecretStr, Field(min_length=1, max_length=4096)] | None = None


class AccountView(BaseModel):
    """Who somebody is. ``email`` is what Supabase says where no other is known."""

    id: UUID
    email: str | None
    role: str

    @classmethod
    def of(cls, account: Account | None) -> "AccountView":
        """Show an account; without one, the account of everybody."""
        if account is None:
            return cls(id=LOCAL.id, email=None, role=LOCAL.role.value)
        return cls(id=account.id, email=account.shown_email, role=account.role.value)


class SignedInView(BaseModel):
    """``access_token`` is good as a bearer until ``expires_at``; null where the cookie is all.

    ``refresh_token`` is Supabase's, null for a session of ours.
    """

    access_token: str | None
    refresh_token: str | None
    expires_at: datetime
    account: AccountView

    @classmethod
    def of(cls, signed_in: SignedIn) -> "SignedInView":
        """The answer to a sign-in."""
        return cls(
            access_token=signed_in.access_token,
            refresh_token=signed_in.refresh_token,
            expires_at=signed_in.expires_at,
            account=AccountView.of(signed_in.account),
        )


class QuotaView(BaseModel):
    """How much of a quota is used; ``max`` null: no limit."""

    used: int
    max: int | None


class MeQuotas(BaseModel):
    """Unfinished runs, bytes of LoRAs (those of unfinished uploads too), and how many LoRAs.
    ``max_lora_bytes`` is what one file may have."""

    runs: QuotaView
    bytes: QuotaView
    loras: QuotaView
    max_lora_bytes: int | None


class MeView(BaseModel):
    """Who is asking. ``ways`` is how one signs in here: ``none``, ``local``, ``supabase``,
    ``cloudflare``. ``scopes`` null: all that the account may do. ``acting`` is the admin who
    asks for this account's things."""

    account: AccountView
    ways: list[str]
    scopes: list[str] | None
    acting: UUID | None
    quotas: MeQuotas

    @classmethod
    def of(cls, me: Me, principal: Principal) -> "MeView":
        """Show who is asking."""
        runs = QuotaView(used=me.spent.unfinished_runs, max=me.quotas.max_runs)
        held = QuotaView(used=me.spent.lora_bytes, max=me.quotas.max_bytes)
        loras = QuotaView(used=me.spent.loras, max=me.quotas.max_loras)
        return cls(
            account=AccountView.of(me.account),
            ways=list(me.ways),
            scopes=None if principal.scopes is None else sorted(principal.scopes),
            acting=principal.acting,
            quotas=MeQuotas(
                runs=runs, bytes=held, loras=loras, max_lora_bytes=me.quotas.max_lora_bytes
            ),
        )


class SessionView(BaseModel):
    """A session; ``current`` is the one that asks."""

    id: UUID
    user_agent: str
    address: str
    current: bool
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


class SessionList(BaseModel):
    """A page of sessions."""

    items: list[SessionView]
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[Session], current: UUID | None) -> "SessionList":
        """The page as an answer."""
        items = [SessionView(**asdict(each), current=each.id == current) for each in page.items]
        return cls(items=items, next_cursor=page.next_cursor)


class TokenOrder(BaseModel):
    """What ``POST /tokens`` takes; without an expiry it lasts until it is deleted."""

    model_config = ConfigDict(extra="forbid")

    name: Line
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=100)]
    expires_in_days: Annotated[int, Field(strict=True, ge=1, le=MAX_DAYS)] | None = None
    expires_at: Annotated[AwareDatetime, AfterValidator(_in_utc)] | None = None

    @model_validator(mode="after")
    def _ends_once(self) -> "TokenOrder":
        if self.expires_in_days is not None and self.expires_at is not None:
            raise ValueError("expires_in_days and expires_at exclude each other")
        return self

    def ends(self, now: datetime) -> datetime | None:
        """When it shall end."""
        if self.expires_in_days is not None:
            return now + timedelta(days=self.expires_in_days)
        return self.expires_at


class TokenView(BaseModel):
    """An API token, without the token itself."""

    id: UUID
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None

    @classmethod
    def of(cls, token: ApiToken) -> "TokenView":
        """Show a token."""
        return cls.model_validate(asdict(token))


class NewTokenView(TokenView):
    """A token that was just made: the one time that ``token`` is shown."""

    token: str

    @classmethod
    def made(cls, token: ApiToken, secret: str) -> "NewTokenView":
        """Show it with its secret."""
        return cls(**asdict(token), token=secret)


class TokenList(BaseModel):
    """A page of API tokens."""

    items: list[TokenView]
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[ApiToken]) -> "TokenList":
        """The page as an answer."""
        return cls(items=[TokenView.of(each) for each in page.items], next_cursor=page.next_cursor)

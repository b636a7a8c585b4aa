"""Keyset pages: newest first, and page 10,000 costs what page 1 does."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Generic, TypeVar
from uuid import UUID

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field

from ..errors import InvalidError

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Cursor:
    """The last row a page showed. Opaque to clients."""

    created_at: datetime
    id: UUID

    def __str__(self) -> str:
        """URL-safe text that ``parse`` reads back."""
        text = f"{self.created_at.isoformat()} {self.id}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Read a cursor. InvalidError("invalid_cursor") for anything we did not make."""
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
            moment, _, row_id = raw.partition(" ")
            # astimezone: one without a zone would be compared as local time, and is not ours
            return cls(datetime.fromisoformat(moment).astimezone(timezone.utc), UUID(row_id))
        except (ValueError, OverflowError, binascii.Error):
            raise InvalidError(
                "invalid_cursor", "This cursor did not come from this list.", {"field": "cursor"}
            ) from None


class PageQuery(BaseModel):
    """What every list takes."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=50, ge=1, le=200)
    cursor: str | None = Field(default=None, max_length=200)


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list, newest first."""

    items: Sequence[T]
    next_cursor: str | None

    def map(self, view: Callable[[T], U]) -> "Page[U]":
        """The same page with each item shown differently."""
        return Page([view(item) for item in self.items], self.next_cursor)


def newest_first(query: sa.Select[Any], table: sa.Table, asked: PageQuery) -> sa.Select[Any]:
    """Order by (created_at, id) descending, start after the cursor, ask for one row too many."""
    if asked.cursor is not None:
        cursor = Cursor.parse(asked.cursor)
        query = query.where(
            sa.tuple_(table.c.created_at, table.c.id)
            < sa.tuple_(
                sa.literal(cursor.created_at, table.c.created_at.type),
                sa.literal(cursor.id, table.c.id.type),
            )
        )
    return query.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(asked.limit + 1)


def cut(rows: Sequence[T], asked: PageQuery, place: Callable[[T], Cursor]) -> Page[T]:
    """Make a page of what ``newest_first`` found; the row too many says that there is more."""
    items = rows[: asked.limit]
    more = len(rows) > asked.limit
    return Page(items, str(place(items[-1])) if more else None)


def has_tag(column: sa.Column[Any], tag: str) -> sa.ColumnElement[bool]:
    """Whether a JSON list of strings holds ``tag``, in any case: LIKE differs in that.

    A search in the JSON text, which both databases have.
    """
    text = sa.func.lower(sa.cast(column, sa.Text))
    return text.contains(json.dumps(tag.lower(), ensure_ascii=False), autoescape=True)

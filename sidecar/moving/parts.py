"""What moves: every table, parents before children, and how one of its rows is compared."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from ..database import tables
from ..principal import SYSTEM, Principal
from ..runs.models import CLAIMED, Status

_LEFT_BEHIND = {"status": Status.QUEUED.value, "worker_id": None, "progress": None, "history": None}
"""Of a run that was under way: its ComfyUI stays behind, so it waits for another attempt."""

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Row:
    """A row as it is, or shall be, where it moves to."""

    key: Key
    values: Mapping[str, Any]
    canonical: bytes
    """The same for equal rows, whichever database they were read from."""


@dataclass(frozen=True)
class Part:
    """One table."""

    table: sa.Table

    @property
    def name(self) -> str:
        """The table's."""
        return str(self.table.name)

    @property
    def key(self) -> Sequence[sa.Column[Any]]:
        """The columns of the primary key; rows are read in its order."""
        return tuple(self.table.primary_key.columns)

    @property
    def is_owned(self) -> bool:
        """Whether its rows are an account's things; else they are read and written as SYSTEM."""
        return "owner_id" in self.table.columns

    @property
    def is_child(self) -> bool:
        """Whether each row has a parent of the same owner, so that the parents tell the owners."""
        return any(len(each.columns) > 1 for each in self.table.foreign_key_constraints)

    def askers(self, owners: Sequence[UUID]) -> Sequence[Principal]:
        """Who has rows of it, in the order in which they are hashed."""
        return [Principal(owner) for owner in sorted(owners)] if self.is_owned else [SYSTEM]

    def after(self, key: Key) -> sa.ColumnElement[bool]:
        """The row comes after this key."""
        return self._columns() > self._literal(key)

    def until(self, key: Key) -> sa.ColumnElement[bool]:
        """The row comes before this key, or has it."""
        return self._columns() <= self._literal(key)

    def among(self, keys: Sequence[Key]) -> sa.ColumnElement[bool]:
        """The row has one of these keys."""
        if len(self.key) == 1:
            return self.key[0].in_([key[0] for key in keys])
        return sa.tuple_(*self.key).in_(keys)

    def moved(self, found: sa.RowMapping) -> Row:
        """A row of the source, as it shall be at the destination."""
        values = dict(found)
        if self.table is tables.runs and Status(values["status"]) in CLAIMED:
            values |= _LEFT_BEHIND
        return self._row(values)

    def row(self, found: sa.RowMapping) -> Row:
        """A row of the destination, as it is."""
        return self._row(dict(found))

    def _row(self, values: Mapping[str, Any]) -> Row:
        key = tuple(values[column.name] for column in self.key)
        shown = [_comparable(column, values[column.name]) for column in self.table.columns]
        text = json.dumps(shown, ensure_ascii=False, separators=(",", ":"))
        return Row(key, values, text.encode("utf-8", "surrogatepass"))

    def _columns(self) -> sa.ColumnElement[Any]:
        return self.key[0] if len(self.key) == 1 else sa.tuple_(*self.key)

    def _literal(self, key: Key) -> sa.ColumnElement[Any]:
        values = [
            sa.literal(value, column.type) for value, column in zip(key, self.key, strict=True)
        ]
        return values[0] if len(values) == 1 else sa.tuple_(*values)


def shown_key(key: Key) -> str:
    """A key for people: ``<uuid>`` or ``<uuid>/3``."""
    return "/".join(map(str, key))


def _comparable(column: sa.Column[Any], value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return _binary_json(value) if column.type is tables.Json else value


def _binary_json(value: Any) -> Any:
    """As Postgres' jsonb sees it: keys have no order, 1.0 and 1 are one number."""
    if isinstance(value, dict):
        return {key: _binary_json(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_binary_json(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


PARTS = tuple(
    Part(table)
    for table in (
        tables.accounts,
        tables.sessions,
        tables.api_tokens,
        tables.workflows,
        tables.workflow_versions,
        tables.loras,
        tables.lora_versions,
        tables.lora_shares,
        tables.runs,
        tables.run_events,
    )
)
"""All but those that stay. A run names a workflow that must be there to be seen."""

STAYS = (tables.uploads,)
"""Uploads under way: their bytes are on the disk of the sidecar that receives them."""

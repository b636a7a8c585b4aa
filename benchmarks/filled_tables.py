"""Fills the table of runs with plain SQL, as years of use would."""

import json
import sqlite3
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
from processes import ROOT

sys.path.insert(0, str(ROOT))  # the clone is not installed

from sidecar.demo_files import demo_prompt
from sidecar.principal import LOCAL

OTHERS = tuple(UUID(int=0xA000 + number) for number in range(100))
"""Who has a tenth as many runs between them."""
WORKFLOWS = tuple(UUID(int=1 + number) for number in range(10))
"""What the runs are of."""

_OUTPUT = {
    "index": 0,
    "node_id": "8",
    "filename": "studio_00001_.png",
    "type": "image",
    "content_type": "image/png",
    "bytes": 1_400_000,
    "sha256": "0" * 64,
    "key": "user-0/runs/0/studio_00001_.png",
    "folder": "output",
}
_ERROR = {"code": "execution_failed", "message": "Out of memory.", "node_id": "6", "details": {}}
_FIRST = datetime(2025, 1, 1, tzinfo=timezone.utc)
_EVERY = timedelta(seconds=20)
_COLUMNS = (
    "id",
    "owner_id",
    "workflow_id",
    "workflow_version",
    "source",
    "status",
    "input_params",
    "prompt",
    "extra_data",
    "loras",
    "worker_id",
    "attempts",
    "outputs",
    "error",
    "gpu_seconds",
    "created_at",
    "started_at",
    "finished_at",
)


def fill_postgres(admin_url: str, runs: int) -> None:
    """So many runs of LOCAL's, and those of the others; left as autovacuum would have."""
    into = f"copy atelier.comfyui_workflow_runs ({', '.join(_COLUMNS)}) from stdin"
    with psycopg.connect(admin_url, autocommit=True) as connection:
        with connection.cursor().copy(into) as copy:
            for values in _rows(runs):
                copy.write_row(values)
        connection.execute("vacuum analyze")
        connection.execute("checkpoint")


def fill_sqlite(file: Path, runs: int) -> None:
    """The same; nothing analyzes a file of SQLite."""
    into = f"insert into comfyui_workflow_runs ({', '.join(_COLUMNS)})"
    connection = sqlite3.connect(file)
    try:
        connection.execute("pragma synchronous = off")
        connection.execute("pragma cache_size = -1000000")  # in KiB: the indexes are not in order
        values = f"values ({', '.join('?' * len(_COLUMNS))})"
        connection.executemany(f"{into} {values}", map(_as_sqlite_stores, _rows(runs)))
        connection.commit()
        connection.execute("pragma wal_checkpoint(truncate)")
    finally:
        connection.close()


def _rows(runs: int) -> Iterator[tuple[Any, ...]]:
    """Of eleven rows ten are LOCAL's; every tenth failed."""
    prompt, output, error = (
        json.dumps(each) for each in (demo_prompt("tiny-sd15.ckpt"), [_OUTPUT], _ERROR)
    )
    for number in range(runs * 11 // 10):
        of_eleven, at = number % 11, _FIRST + number * _EVERY
        owner = LOCAL.id if of_eleven else OTHERS[number // 11 % len(OTHERS)]
        failed = number // 11 % 10 == 0
        yield (
            uuid4(),
            owner,
            WORKFLOWS[number // 7 % len(WORKFLOWS)],
            1,
            "api",
            "failed" if failed else "succeeded",
            '{"seed": 7}',
            prompt,
            "{}",
            "[]",
            "local",
            1,
            "[]" if failed else output,
            error if failed else None,
            4.5,
            at,
            at + timedelta(seconds=1),
            at + timedelta(seconds=9),
        )


def _as_sqlite_stores(values: tuple[Any, ...]) -> list[Any]:
    return [_plain(value) for value in values]


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return value.hex
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.%f")
    return value

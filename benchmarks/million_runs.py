"""Whether a studio grows slow: pages, submissions and claims with a million runs in its table.

    python benchmarks/million_runs.py --runs 1000000

On Postgres with row-level security and on SQLite. One account has the runs, a hundred others a
tenth as many between them. Page 1,000 is reached by its cursors and stands beside page 1, with and
without filters; submitting and claiming stand beside the same in a studio without any run. ComfyUI
takes one run and holds it, so that the others only queue. The rows are written with plain SQL.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from asking import Connection, connected, request
from figures import Sample, machine, pairwise, row, title
from filled_tables import OTHERS, WORKFLOWS, fill_postgres, fill_sqlite
from processes import ROOT, studio

sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fakes")]  # the clone is not installed

from databases import PostgresStudios, migrated_file, opened, sqlite_database  # noqa: E402
from postgres_server import PostgresServer  # noqa: E402
from some_runs import some_run  # noqa: E402

from sidecar.clock import SystemClock  # noqa: E402
from sidecar.database import Database  # noqa: E402
from sidecar.demo_files import demo_prompt  # noqa: E402
from sidecar.principal import LOCAL  # noqa: E402
from sidecar.runs.feed import RunFeed  # noqa: E402
from sidecar.runs.journal import RunJournal  # noqa: E402

DEEP = 1000
AIM = 1.5
EACH = 5
"""Measured one after the other, before it is the neighbour's turn."""
WAITING = 20
"""Accounts with a run in the queue while claims are measured."""
FILTERS = {
    "all": "",
    "status=failed, every tenth": "&status=failed",
    "workflow_id, every tenth": f"&workflow_id={WORKFLOWS[0]}",
}
RARE = {
    "status=queued, none of them": "&status=queued",
    "workflow_id, none of them": f"&workflow_id={UUID(int=0)}",
}


@dataclass(frozen=True)
class Place:
    """A database: where a sidecar finds it, and how this process opens it."""

    url: str
    open: Callable[[], AbstractAsyncContextManager[Database]]


@contextmanager
def on_postgres(runs: int) -> Iterator[tuple[Place, Place]]:
    """The full one and the empty one."""
    server = PostgresServer(
        fsync="on", synchronous_commit="on", full_page_writes="on", max_wal_size="4GB"
    )
    try:
        server.start()
        studios = PostgresStudios(server)
        full, empty = studios.new(), studios.new()
        fill_postgres(studios.admin_url(full), runs)
        yield _postgres(studios.url(full)), _postgres(studios.url(empty))
    finally:
        server.stop()


def _postgres(url: str) -> Place:
    return Place(url, lambda: opened(url))


@contextmanager
def on_sqlite(runs: int) -> Iterator[tuple[Place, Place]]:
    """The full one and the empty one."""
    with tempfile.TemporaryDirectory(prefix="atelier-benchmark-") as name:
        places = []
        for kind in ("full", "empty"):
            folder = Path(name) / kind
            folder.mkdir()
            file = migrated_file(folder)
            places.append(_sqlite(file))
            if kind == "full":
                fill_sqlite(file, runs)
        yield places[0], places[1]


def _sqlite(file: Path) -> Place:
    return Place(f"sqlite:///{file}", lambda: sqlite_database(file))


async def alternately(
    rounds: int, first: Callable[[], Awaitable[float]], second: Callable[[], Awaitable[float]]
) -> tuple[Sample, Sample]:
    """Both in turn, whichever comes first; milliseconds. One round before warms up."""
    measured: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        pair = [(first, measured[0]), (second, measured[1])]
        for measure, values in pair if turn % 2 else pair[::-1]:
            value = await measure()
            if turn:
                values.append(value)
    return Sample(measured[0]), Sample(measured[1])


async def timed(connection: Connection, asked: bytes) -> float:
    """Milliseconds of an answer."""
    began = time.perf_counter()
    for _ in range(EACH):
        await connection.ask(asked)
    return (time.perf_counter() - began) * 1000 / EACH


async def cursor_of(connection: Connection, url: str, page: int) -> str:
    """The cursor that leads to this page, walked to from the first."""
    cursor = ""
    for _ in range(page - 1):
        answer = json.loads(await connection.ask(request("GET", url + cursor)))
        if answer["next_cursor"] is None:
            raise SystemExit(f"{url} has no page {page}: more --runs are needed.")
        cursor = f"&cursor={answer['next_cursor']}"
    return cursor


async def measure_pages(api: str, deep: int, rounds: int) -> None:
    """Deep pages against the first, and pages with nothing on them against full ones."""
    async with connected(api) as connection:
        for name, chosen in FILTERS.items():
            url = f"{api}/runs?limit=50{chosen}"
            first = request("GET", url)
            last = request("GET", url + await cursor_of(connection, url, deep))
            above, below = await alternately(
                rounds, partial(timed, connection, last), partial(timed, connection, first)
            )
            row(f"{name}: page 1 (baseline)", below.text("ms"))
            row(f"{name}: page {deep:,}", above.text("ms"))
            row("  ratio", pairwise(above, below).text("x", 2), f"aim: within {AIM}")
        plain = request("GET", f"{api}/runs?limit=50")
        for name, chosen in RARE.items():
            asked = request("GET", f"{api}/runs?limit=50{chosen}")
            above, below = await alternately(
                rounds, partial(timed, connection, asked), partial(timed, connection, plain)
            )
            row(name, above.text("ms"))
            row("  ratio to page 1 of all", pairwise(above, below).text("x", 2))


async def measure_submissions(apis: Sequence[str], rounds: int) -> None:
    """``POST /workflows/{id}/run`` in the full studio against the empty one."""
    async with connected(apis[0]) as full, connected(apis[1]) as empty:
        asked = []
        for api, connection in zip(apis, (full, empty), strict=True):
            order = {"name": "drawing", "workflow_json": _prompt()}
            stored = json.loads(
                await connection.ask(request("POST", f"{api}/workflows", order=order))
            )
            asked.append(request("POST", f"{api}/workflows/{stored['id']}/run", order={}))
        above, below = await alternately(
            rounds, partial(timed, full, asked[0]), partial(timed, empty, asked[1])
        )
    row("POST /workflows/{id}/run, no runs (baseline)", below.text("ms"))
    row("POST /workflows/{id}/run", above.text("ms"))
    row("  ratio", pairwise(above, below).text("x", 2), f"aim: within {AIM}")


def _prompt() -> dict[str, Any]:
    prompt = demo_prompt("tiny-sd15.ckpt")
    del prompt["2"]  # the LoRA
    for node in prompt.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] == "2":
                node["inputs"][name] = ["1", value[1]]
    return prompt


async def measure_claims(full: Place, empty: Place, rounds: int) -> None:
    """Claiming the next fair run, in this process."""
    async with full.open() as crowded, empty.open() as bare:
        above, below = await alternately(rounds, partial(_claims, crowded), partial(_claims, bare))
    row("claim the next run, no runs (baseline)", below.text("ms"))
    row("claim the next run", above.text("ms"))
    row("  ratio", pairwise(above, below).text("x", 2), f"aim: within {AIM}")


async def _claims(database: Database) -> float:
    """Milliseconds of one of so many claims."""
    clock = SystemClock()
    journal = RunJournal(database, RunFeed(), clock, lambda: None)
    owners = [LOCAL.id, *OTHERS[: WAITING - 1]]
    waiting = [some_run(clock.now(), owner, id=uuid4()) for owner in owners]
    for run in waiting:
        await journal.add(run)
    began = time.perf_counter()
    claimed = [await journal.claim_next("benchmark") for _ in waiting]
    milliseconds = (time.perf_counter() - began) * 1000 / len(waiting)
    if {each[0] for each in claimed if each} != {run.id for run in waiting}:
        raise SystemExit("Other runs were claimed than those that waited.")
    for run in waiting:
        await journal.cancel(run)
    return milliseconds


def measure(full: Place, empty: Place, asked: argparse.Namespace) -> None:
    """Everything, on one kind of database."""
    with ExitStack() as stack:
        settings = {"ATELIER_RUNS_AT_ONCE": "1"}
        apis = [
            stack.enter_context(studio(held=True, DATABASE_URL=place.url, **settings)).api
            for place in (full, empty)
        ]
        asyncio.run(measure_pages(apis[0], asked.page, asked.rounds))
        asyncio.run(measure_submissions(apis, asked.rounds))
    asyncio.run(_cancel_all(full, empty))
    asyncio.run(measure_claims(full, empty, asked.rounds))


async def _cancel_all(*places: Place) -> None:
    """Nothing waits any more of what was submitted."""
    for place in places:
        async with place.open() as database:
            journal = RunJournal(database, RunFeed(), SystemClock(), lambda: None)
            await journal.cancel_all(LOCAL.id)


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--page", type=int, default=DEEP)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--on", choices=("postgres", "sqlite"), action="append")
    asked = parser.parse_args()
    print(machine())
    kinds = {
        "postgres": ("Postgres with row-level security", on_postgres),
        "sqlite": ("SQLite", on_sqlite),
    }
    for kind in asked.on or kinds:
        name, made = kinds[kind]
        with made(asked.runs) as (full, empty):
            title(f"{name}: {asked.runs:,} runs of one account, medians of {asked.rounds} rounds")
            measure(full, empty, asked)


if __name__ == "__main__":
    main()

"""What row-level security costs: requests a second on Postgres, with and without it.

    python benchmarks/row_security.py --rounds 21

Three sidecars, each on a database of its own with the same 200 workflows, are asked in turn: one as
it is; the same one as the owner of the tables, whose transactions say everything but who asks (the
baseline); and that one with nothing said, where the database brings the schema and the timeout, so
that a round trip is saved. ComfyUI takes one run and holds it, so that the others only queue, and
before each measurement the queue is emptied.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import aiohttp
from asking import rate_for, rate_of, request
from figures import Sample, machine, pairwise, row, title
from processes import ROOT, SIDECAR, UNSECURED, Studio, command, studio

sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fakes")]  # the clone is not installed

from databases import PostgresStudios  # noqa: E402
from postgres_server import PostgresServer  # noqa: E402

from sidecar.demo_files import demo_lora, demo_prompt  # noqa: E402

BARE = (*UNSECURED, "--bare")
BARE_SETTINGS = ("search_path = atelier", "statement_timeout = '15s'")
PROGRAMS = {
    "row-level security": SIDECAR,
    "the same without it (baseline)": UNSECURED,
    "without it, nothing set": BARE,
}
WORKFLOWS = 200
CONNECTIONS = (1, 10)
AIM = 0.65
EMAIL, PASSWORD = "ann@studio.example", "correct horse battery staple"
ADD_ACCOUNT = ("users", "add", EMAIL, "--password-stdin")
LORA = "style"
EMPTY_QUEUE = (
    "delete from atelier.comfyui_run_events where run_id in"
    " (select id from atelier.comfyui_workflow_runs where status = 'queued')",
    "delete from atelier.comfyui_workflow_runs where status = 'queued'",
    "vacuum analyze atelier.comfyui_run_events, atelier.comfyui_workflow_runs",
)


@dataclass(frozen=True)
class Stand:
    """A sidecar, its database, and what it is asked."""

    name: str
    studio: Studio
    server: PostgresServer
    database: str
    listing: bytes
    running: bytes

    async def lists(self, connections: int, seconds: float) -> float:
        """Pages of workflows a second."""
        return await rate_for(self.studio.api, self.listing, connections, seconds)

    async def runs(self, connections: int, count: int) -> float:
        """Runs queued a second; there were none before."""
        for statement in EMPTY_QUEUE:
            await asyncio.to_thread(self.server.psql, statement, self.database)
        return await rate_of(self.studio.api, self.running, connections, count)


@contextmanager
def standing(
    studios: PostgresStudios, name: str, program: Sequence[str], auth: str
) -> Iterator[Stand]:
    """A sidecar on a furnished database of its own."""
    database = studios.new()
    for setting in BARE_SETTINGS if program == BARE else ():
        studios.server.psql(f"alter database {database} set {setting}")
    secured = studios.url(database)
    if auth == "local":
        command(*ADD_ACCOUNT, given=PASSWORD, DATABASE_URL=secured, ATELIER_AUTH=auth)
    url = secured if program == SIDECAR else studios.admin_url(database)
    settings = {"DATABASE_URL": url, "ATELIER_AUTH": auth, "ATELIER_RUNS_AT_ONCE": "1"}
    with studio(program, held=True, **settings) as where:
        token, workflow_id = asyncio.run(_furnished(where.api, auth))
        listing = request("GET", f"{where.api}/workflows", token=token)
        order = {"input_params": {"seed": 7, "lora_name": LORA}}
        url = f"{where.api}/workflows/{workflow_id}/run"
        running = request("POST", url, token=token, order=order)
        yield Stand(name, where, studios.server, database, listing, running)


async def _furnished(api: str, auth: str) -> tuple[str | None, str]:
    """Store the LoRA and the workflows, and run one; an API token, and a workflow's id."""
    async with aiohttp.ClientSession() as session:
        token = None
        if auth == "local":
            who = {"email": EMAIL, "password": PASSWORD}
            signed_in = await _post(session, f"{api}/auth/login", json=who)
            session.headers["Authorization"] = f"Bearer {signed_in['access_token']}"
            order = {"name": "benchmark", "scopes": ["workflows:read", "runs:write"]}
            token = str((await _post(session, f"{api}/tokens", json=order))["token"])
        form = aiohttp.FormData()
        form.add_field("file", demo_lora(), filename=f"{LORA}.safetensors")
        await _post(session, f"{api}/loras", data=form)
        prompt = demo_prompt("tiny-sd15.ckpt")
        prompt["2"]["inputs"]["lora_name"] = LORA
        stored = {}
        for number in range(WORKFLOWS):
            order = {"name": f"Portrait, take {number}", "workflow_json": prompt}
            stored = await _post(session, f"{api}/workflows", json=order)
        await _post(session, f"{api}/workflows/{stored['id']}/run", json={})
        return token, str(stored["id"])


async def _post(session: aiohttp.ClientSession, url: str, **body: object) -> dict[str, object]:
    async with session.post(url, **body) as response:
        answer = await response.json()
        if response.status >= 400:
            raise SystemExit(f"{url}: {response.status} {json.dumps(answer)}")
        return dict(answer)


async def measure(made: list[Stand], auth: str, asked: argparse.Namespace) -> None:
    """Measure in turn, and print what was answered."""
    for connections in CONNECTIONS:
        lists: list[list[float]] = [[] for _ in made]
        runs: list[list[float]] = [[] for _ in made]
        for turn in range(asked.rounds + 1):
            order = list(range(len(made)))
            for index in order if turn % 2 else order[::-1]:
                pages = await made[index].lists(connections, asked.seconds)
                queued = await made[index].runs(connections, asked.runs)
                if turn > 0:  # the first warms up
                    lists[index].append(pages)
                    runs[index].append(queued)
        for what, rates in (("GET /workflows", lists), ("POST /workflows/{id}/run", runs)):
            title(f"{what}, {connections} at once, ATELIER_AUTH={auth}")
            samples = [Sample(each) for each in rates]
            for stand, sample in zip(made, samples, strict=True):
                row(stand.name, sample.text("/s", 0))
            secured, baseline, bare = samples
            aim = f"aim: at least {AIM}"
            row("  ratio to the baseline", pairwise(secured, baseline).text("x", 3), aim)
            row("  ratio to nothing set", pairwise(secured, bare).text("x", 3))


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.4, help="of each listing")
    parser.add_argument("--runs", type=int, default=30, help="queued in each measurement")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--auth", choices=("none", "local"), action="append")
    asked = parser.parse_args()
    print(machine())
    server = PostgresServer(fsync="on", synchronous_commit="on", full_page_writes="on")
    try:
        server.start()
        studios = PostgresStudios(server)
        for auth in asked.auth or ("none", "local"):
            with ExitStack() as stack:
                made = [
                    stack.enter_context(standing(studios, name, program, auth))
                    for name, program in PROGRAMS.items()
                ]
                asyncio.run(measure(made, auth, asked))
    finally:
        server.stop()


if __name__ == "__main__":
    main()

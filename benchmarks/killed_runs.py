"""Kill the sidecar and ComfyUI at random moments while runs are in flight; lose and double nothing.

    python benchmarks/killed_runs.py --runs 60 --kills 30 --comfyui-kills 5
    python benchmarks/killed_runs.py --database pgbouncer --database-kills 3

Starts the stand-in for ComfyUI (or, with --real, the ComfyUI that COMFYUI_DIR names) and the
sidecar as processes, submits runs, and ends both with SIGKILL again and again, and a Postgres with
them. At the end every accepted run must be in a final state with its outputs readable, and within
the life of one ComfyUI no run id may have been executed twice. Prints one line of figures; exit
status 1 when a promise was broken. POSIX only.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
from killed_processes import CountingRealComfyUI, CountingStandIn, KilledPostgres, Stand

from sidecar.demo_files import demo_lora

SETTLE_SECONDS = 180
API = "/api/v1/comfyui"


class Client:
    """Asks a sidecar that may be dead at any moment."""

    def __init__(self, session: aiohttp.ClientSession, api: str) -> None:
        self._session = session
        self._api = api

    async def ask(self, method: str, path: str, **kwargs: Any) -> tuple[int, Any]:
        """Repeat until there is an answer that is not 5xx."""
        give_up = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < give_up:
            try:
                async with self._session.request(method, self._api + path, **kwargs) as response:
                    body = await response.read()
                    if response.status < 500:
                        is_json = response.content_type == "application/json"
                        return response.status, json.loads(body) if is_json else body
            except (aiohttp.ClientError, asyncio.TimeoutError, OSError):
                pass
            await asyncio.sleep(0.05)
        raise SystemExit(f"FAILED: no answer to {method} {path}")


async def submit(client: Client, count: int, workflow_id: str) -> list[str]:
    """Submit runs, each with an Idempotency-Key: an answer not heard is asked for again."""
    accepted = []
    for number in range(count):
        order = {"input_params": {"seed": number, "lora_name": f"style-{number % 3}"}}
        status, run = await client.ask(
            "POST",
            f"/workflows/{workflow_id}/run",
            json=order,
            headers={"Idempotency-Key": f"run-{number}"},
        )
        if status != 202:
            raise SystemExit(f"FAILED: a run was not accepted: {status} {run}")
        accepted.append(run["id"])
    return accepted


async def kill_again_and_again(stand: Stand, args: argparse.Namespace) -> None:
    """The kills, in random order, at random moments."""
    chance = random.Random(args.seed)
    victims = ["sidecar"] * args.kills + ["comfyui"] * args.comfyui_kills
    victims += ["database"] * args.database_kills
    chance.shuffle(victims)
    for victim in victims:
        await asyncio.sleep(chance.uniform(0.05, args.longest_pause))
        if victim == "sidecar":
            await stand.sidecar.kill()
            await stand.sidecar.start()
        elif victim == "database" and stand.database is not None:
            await stand.database.crash(chance.uniform(0.0, 3.0))
            if not stand.sidecar.is_alive:  # it does not start without its database
                await stand.sidecar.start()
        else:
            await stand.comfyui.kill()
            await asyncio.sleep(chance.uniform(0.0, 0.5))
            await stand.start_comfyui()


async def settle(client: Client, runs: list[str]) -> list[dict[str, Any]]:
    """Wait until every run is final."""
    give_up = time.monotonic() + SETTLE_SECONDS
    ended: dict[str, dict[str, Any]] = {}
    while len(ended) < len(runs) and time.monotonic() < give_up:
        for run_id in [run_id for run_id in runs if run_id not in ended]:
            _, run = await client.ask("GET", f"/runs/{run_id}")
            if run["status"] in ("succeeded", "failed", "cancelled"):
                ended[run_id] = run
        await asyncio.sleep(0.2)
    return list(ended.values())


async def unreadable(client: Client, runs: list[dict[str, Any]]) -> int:
    """How many succeeded runs lack a readable output."""
    missing = 0
    for run in runs:
        if run["status"] != "succeeded":
            continue
        outputs = [await client.ask("GET", o["url"].removeprefix(API)) for o in run["outputs"]]
        if not outputs or any(status != 200 or not body for status, body in outputs):
            missing += 1
    return missing


async def experiment(folder: Path, args: argparse.Namespace) -> bool:
    """The whole thing; whether every promise held."""
    port = args.port
    comfyui = CountingRealComfyUI(folder) if args.real else CountingStandIn(folder, port + 1)
    database = None
    if args.database != "sqlite":
        database = KilledPostgres(pooled=args.database == "pgbouncer")
    stand = Stand(folder, comfyui, port, database)
    await stand.start_comfyui()
    await stand.sidecar.start()
    try:
        async with aiohttp.ClientSession() as session:
            client = Client(session, stand.host + API)
            for number in range(3):
                form = aiohttp.FormData()
                form.add_field("file", demo_lora(number), filename=f"style-{number}.safetensors")
                await client.ask("POST", "/loras", data=form)
            body = {"name": "killed", "workflow_json": comfyui.prompt()}
            _, workflow = await client.ask("POST", "/workflows", json=body)
            killing = asyncio.create_task(kill_again_and_again(stand, args))
            runs = await submit(client, args.runs, workflow["id"])
            await killing
            ended = await settle(client, runs)
            missing = await unreadable(client, ended)
        return report(stand, args, runs, ended, missing)
    finally:
        await stand.stop()


def report(
    stand: Stand,
    args: argparse.Namespace,
    runs: list[str],
    ended: list[dict[str, Any]],
    missing: int,
) -> bool:
    """Print the figures; whether every promise held."""
    states = Counter(run["status"] for run in ended)
    doubled = stand.doubled()
    executions = len(stand.executions())
    print(
        f"{args.database}: {len(runs)} runs, {args.kills} kills of the sidecar, "
        f"{args.comfyui_kills} of ComfyUI, {args.database_kills} of the database: "
        f"{dict(states)}, {len(runs) - len(ended)} unfinished, {missing} without outputs, "
        f"{executions} executions, {len(doubled)} doubled within one life of ComfyUI"
    )
    return states["succeeded"] == len(runs) and not doubled and missing == 0


def main() -> int:
    """Run the experiment in a temporary folder; its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--kills", type=int, default=30, help="of the sidecar")
    parser.add_argument("--comfyui-kills", type=int, default=5)
    parser.add_argument("--database", choices=["sqlite", "postgres", "pgbouncer"], default="sqlite")
    parser.add_argument("--database-kills", type=int, default=0, help="of a Postgres")
    parser.add_argument("--longest-pause", type=float, default=1.5, help="seconds between kills")
    parser.add_argument("--real", action="store_true", help="the real ComfyUI")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--port", type=int, default=18190, help="this one and the next")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs")
    args = parser.parse_args()
    if args.database == "sqlite" and args.database_kills:
        parser.error("--database-kills needs --database postgres or pgbouncer")
    if args.keep:
        folder = Path(tempfile.mkdtemp(prefix="killed-runs-"))
        print(f"logs in {folder}")
        held = asyncio.run(experiment(folder, args))
    else:
        with tempfile.TemporaryDirectory(prefix="killed-runs-") as name:
            held = asyncio.run(experiment(Path(name), args))
    print("PROVED" if held else "FAILED")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())

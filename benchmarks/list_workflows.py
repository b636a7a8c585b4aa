"""How many pages of workflows a second are served, against a handler that does nothing else.

    python benchmarks/list_workflows.py --seconds 2 --rounds 5

In turn, ``GET /workflows`` of the sidecar and a bare aiohttp handler that answers the same JSON are
asked as fast as they answer, by the same client, over 1 and over 16 connections.
"""

import argparse
import asyncio
import sys

import aiohttp
from asking import rate_for, request
from figures import Sample, machine, pairwise, row, title
from processes import ROOT, Studio, server, studio

sys.path.insert(0, str(ROOT))  # the clone is not installed

from sidecar.demo_files import demo_prompt

WORKFLOWS = 50
CONNECTIONS = (1, 16)
WARM_UP_SECONDS = 0.3


async def store_workflows(api: str) -> bytes:
    """Store them; the page that lists them."""
    async with aiohttp.ClientSession() as session:
        for number in range(WORKFLOWS):
            order = {
                "name": f"Portrait in the studio, take {number}",
                "description": "Text to image with a LoRA.",
                "tags": ["portrait", f"take-{number}"],
                "workflow_json": demo_prompt("tiny-sd15.ckpt"),
            }
            async with session.post(f"{api}/workflows", json=order) as response:
                if response.status != 201:
                    raise SystemExit(f"Not stored: {await response.text()}")
        async with session.get(f"{api}/workflows") as response:
            page = await response.json()
            if len(page["items"]) != WORKFLOWS:
                raise SystemExit(f"The page has {len(page['items'])} of {WORKFLOWS} workflows.")
            return await response.read()


async def measure(stand: Studio, seconds: float, rounds: int) -> None:
    """Measure in turn, and print what was answered."""
    page = await store_workflows(stand.api)
    answer = stand.folder / "page.json"
    answer.write_bytes(page)
    listed = f"{stand.api}/workflows"
    with server("bare", "--answer", str(answer), folder=stand.folder) as bare:
        title(f"pages of {WORKFLOWS} workflows ({len(page)} bytes), medians of {rounds} rounds")
        for connections in CONNECTIONS:
            for url in (bare.url, listed):
                await rate_for(url, request("GET", url), connections, WARM_UP_SECONDS)
            bares: list[float] = []
            lists: list[float] = []
            for _ in range(rounds):
                for url, rates in ((bare.url, bares), (listed, lists)):
                    asked = request("GET", url)
                    rates.append(await rate_for(url, asked, connections, seconds))
            ratio = pairwise(Sample(lists), Sample(bares))
            row(f"bare handler, {connections} at once (baseline)", Sample(bares).text("/s", 0))
            row(f"GET /workflows, {connections} at once", Sample(lists).text("/s", 0))
            row("  ratio to the baseline", ratio.text("x", 3))


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    print(machine())
    with studio() as stand:
        asyncio.run(measure(stand, asked.seconds, asked.rounds))


if __name__ == "__main__":
    main()

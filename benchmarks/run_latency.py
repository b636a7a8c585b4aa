"""How much later ComfyUI receives a prompt when it comes as a run, instead of directly.

    python benchmarks/run_latency.py --pairs 50

In turn, a stored workflow is run through the sidecar and the same prompt is posted to ComfyUI, one
at a time, each waited for. The time is from before the client sends to when ComfyUI has the prompt.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import aiohttp
from big_files import durable_append
from figures import Sample, machine, row, title
from processes import ROOT, Studio, studio

sys.path.insert(0, str(ROOT))  # the clone is not installed

from sidecar.demo_files import demo_lora, demo_prompt

LORA = "style"
WARM_UP = 5
AIM_MS = 50
POLL_SECONDS = 0.02
GIVE_UP_SECONDS = 60


@dataclass(frozen=True)
class Passage:
    """What one run asked of ComfyUI until the prompt was there: request and ms since the send."""

    arrivals: tuple[tuple[str, float], ...]
    answered_ms: float

    @property
    def shape(self) -> tuple[str, ...]:
        """The requests alone."""
        return tuple(request for request, _ in self.arrivals)

    @property
    def total_ms(self) -> float:
        """Until ComfyUI had the prompt."""
        return self.arrivals[-1][1]


class Client:
    """One client of both; its connections stay open."""

    def __init__(self, session: aiohttp.ClientSession, stand: Studio) -> None:
        self._session = session
        self._stand = stand

    async def ask(self, method: str, url: str, **body: Any) -> Any:
        """A JSON answer; ends the benchmark when it is an error."""
        async with self._session.request(method, url, **body) as response:
            answer = await response.json()
            if response.status >= 400:
                raise SystemExit(f"{method} {url}: {response.status} {answer}")
            return answer

    async def store(self) -> str:
        """Upload a LoRA and store the workflow; its id."""
        form = aiohttp.FormData()
        form.add_field("file", demo_lora(), filename=f"{LORA}.safetensors")
        await self.ask("POST", f"{self._stand.api}/loras", data=form)
        order = {"name": "drawing", "workflow_json": _prompt(0, LORA)}
        return str((await self.ask("POST", f"{self._stand.api}/workflows", json=order))["id"])

    async def direct(self, seed: int, lora_file: str) -> float:
        """Post a prompt to ComfyUI and wait for its end; ms until it was there."""
        comfyui, prompt_id = self._stand.comfyui.url, str(uuid4())
        body = {"prompt": _prompt(seed, lora_file), "prompt_id": prompt_id, "client_id": "direct"}
        await self._forget()
        sent = time.perf_counter_ns()
        await self.ask("POST", f"{comfyui}/prompt", json=body)
        arrived = (await self._arrivals(sent, prompt_id))[-1][1]
        await self._until(f"{comfyui}/history/{prompt_id}", lambda entry: prompt_id in entry)
        return arrived

    async def run(self, seed: int, workflow_id: str) -> tuple[Passage, str]:
        """Run the workflow and wait for its end; the passage, and the LoRA's path."""
        url = f"{self._stand.api}/workflows/{workflow_id}/run"
        order = {"input_params": {"seed": seed, "lora_name": LORA}}
        await self._forget()
        sent = time.perf_counter_ns()
        run = await self.ask("POST", url, json=order)
        answered = (time.perf_counter_ns() - sent) / 1e6
        url = f"{self._stand.api}/runs/{run['id']}"
        run = await self._until(url, lambda run: run["finished_at"] is not None)
        if run["status"] != "succeeded":
            raise SystemExit(f"The run {run['status']}: {run['error']}")
        passage = Passage(tuple(await self._arrivals(sent, run["id"])), answered)
        return passage, str(run["loras"][0]["path"])

    async def _arrivals(self, sent: int, run_id: str) -> list[tuple[str, float]]:
        """What ComfyUI was asked since ``_forget``, up to the prompt; ms after ``sent``."""
        seen = []
        for at, method, path in await self._forget():
            named = path.replace(run_id, "{id}")
            seen.append((f"{method} {named}", (at - sent) / 1e6))
            if (method, path) == ("POST", "/prompt"):
                return seen
        raise SystemExit("The prompt did not come to ComfyUI.")

    async def _forget(self) -> Any:
        return await self.ask("GET", f"{self._stand.comfyui.url}/arrivals")

    async def _until(self, url: str, is_over: Any) -> Any:
        give_up = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < give_up:
            answer = await self.ask("GET", url)
            if is_over(answer):
                return answer
            await asyncio.sleep(POLL_SECONDS)
        raise SystemExit(f"{url} did not end in {GIVE_UP_SECONDS} seconds.")


def _prompt(seed: int, lora_file: str) -> dict[str, Any]:
    prompt = demo_prompt("tiny-sd15.ckpt")
    prompt["6"]["inputs"]["seed"] = seed
    prompt["2"]["inputs"]["lora_name"] = lora_file
    return prompt


async def measure(stand: Studio, pairs: int, idle_seconds: float) -> None:
    """Measure pairs, and print what they took."""
    direct, runs, appends = [], [], []
    async with aiohttp.ClientSession() as session:
        client = Client(session, stand)
        workflow_id = await client.store()
        with (stand.folder / "appends").open("wb") as file:
            for turn in range(WARM_UP + pairs):
                await asyncio.sleep(idle_seconds)
                passage, lora_file = await client.run(2 * turn, workflow_id)
                await asyncio.sleep(idle_seconds)
                posted = await client.direct(2 * turn + 1, lora_file)
                appended = durable_append(file)
                if turn >= WARM_UP:
                    runs.append(passage)
                    direct.append(posted)
                    appends.append(appended * 1000)
    report(Sample(direct), runs)
    title("what one durable write costs on this disk, measured after each pair")
    row("append 4 kB, fsync", Sample(appends).text("ms", 2))


def report(direct: Sample, runs: list[Passage]) -> None:
    """Print the latencies, then where the time of a run goes."""
    total = Sample([run.total_ms for run in runs])
    added = total.median - direct.median
    title(f"until ComfyUI has the prompt, {len(runs)} pairs, medians (quartiles)")
    row("POST /prompt, directly (baseline)", direct.text("ms"))
    row("POST /workflows/{id}/run", total.text("ms"))
    row("added at the median", f"{added:9.1f} ms", f"aim: under {AIM_MS} ms")
    row("ratio", f"{total.median / direct.median:9.1f}")
    answered = Sample([run.answered_ms for run in runs])
    row("the client has its 202 after", answered.text("ms"))
    shape, times = Counter(run.shape for run in runs).most_common(1)[0]
    title(f"where the time goes, by what ComfyUI is asked ({times} of {len(runs)} runs)")
    like = [run.arrivals for run in runs if run.shape == shape]
    for index, request in enumerate(shape):
        before = [arrivals[index - 1][1] if index else 0.0 for arrivals in like]
        now = [arrivals[index][1] for arrivals in like]
        taken = Sample([end - start for start, end in zip(before, now, strict=True)])
        row(f"until {request}", taken.text("ms"))


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--idle-seconds", type=float, default=0.1, help="before each")
    asked = parser.parse_args()
    print(machine())
    with studio() as stand:
        asyncio.run(measure(stand, asked.pairs, asked.idle_seconds))


if __name__ == "__main__":
    main()

"""What a slow key server does to the event loop that checks tokens.

    python benchmarks/slow_key_server.py --seconds 8 --rounds 3

In turn, the loop is left idle; checks tokens against a key server that answers at once, and against
one that takes two seconds; and does the latter with the stock PyJWKClient. Time passes 300 times
as fast for the key cache, and after every tenth token comes one whose key nobody knows, so that
keys are nearly always just being fetched. Measured are how late a timer of 5 ms fires, and how
long a token with a known key takes. The key server is a process of its own.
"""

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import jwt
from figures import Sample, machine, pairwise, row, title

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fakes")]

from signing_keys import es256  # noqa: E402 - the clone is not installed
from supabase_emulator import SupabaseEmulator  # noqa: E402
from troubled_server import slow  # noqa: E402

from sidecar.clock import SystemClock  # noqa: E402
from sidecar.errors import UnauthenticatedError  # noqa: E402
from sidecar.identity.supabase_tokens import SupabaseTokens  # noqa: E402

ANSWER_SECONDS = 2.0
TIMER_SECONDS = 0.005
PAUSE_SECONDS = 0.02
UNKNOWN_EVERY = 10
HASTE = 300
"""The cache's ten minutes are then as long as the slow server takes."""
FIGURES = ("p50", "p99", "max")
STANDSTILL_MS = 100.0

Check = Callable[[str], Awaitable[None]]
Checking = Callable[[], contextlib.AbstractAsyncContextManager[Check | None]]


@dataclass
class Measured:
    """Milliseconds of one round."""

    lags: list[float] = field(default_factory=list)
    checks: list[float] = field(default_factory=list)

    @property
    def standstill(self) -> float:
        """Percent of the time that went by in long lags."""
        total = sum(self.lags) + len(self.lags) * TIMER_SECONDS * 1000
        return 100 * sum(lag for lag in self.lags if lag > STANDSTILL_MS) / total


@dataclass(frozen=True)
class KeyServer:
    """Where it is, a token that it signed, and one of a key that it does not have."""

    url: str
    token: str
    unknown: str


async def serve(seconds: float) -> None:
    """The key server: say where it is, and serve until the end of the input."""
    emulator = SupabaseEmulator()
    if seconds:
        emulator.trouble["jwks"] = slow(seconds)
    async with emulator.serving() as url:
        user = emulator.add_user("ada@example.com", "not asked for")
        token = emulator.token(user)
        unknown = es256("unknown").sign(emulator.claims(user))
        print(json.dumps({"url": url, "token": token, "unknown": unknown}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


@contextmanager
def key_server(seconds: float) -> Iterator[KeyServer]:
    """It, as a process."""
    command = [sys.executable, __file__, "--serve", str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield KeyServer(**json.loads(process.stdout.readline()))
        assert process.stdin is not None
        process.stdin.close()


@asynccontextmanager
async def idle() -> AsyncIterator[None]:
    """Nothing is checked."""
    yield None


def sidecars(server: KeyServer) -> Checking:
    """What the sidecar checks with."""

    @asynccontextmanager
    async def checking() -> AsyncIterator[Check]:
        async with aiohttp.ClientSession() as http:
            tokens = SupabaseTokens(
                http, server.url, SystemClock(), monotonic=lambda: time.monotonic() * HASTE
            )

            async def check(token: str) -> None:
                await tokens.identify(token)

            async with tokens.running():
                await check(server.token)
                yield check

    return checking


def stock(server: KeyServer) -> Checking:
    """PyJWT's own client, its keys kept for as long."""

    @asynccontextmanager
    async def checking() -> AsyncIterator[Check]:
        url = f"{server.url}/auth/v1/.well-known/jwks.json"
        client = jwt.PyJWKClient(url, lifespan=int(ANSWER_SECONDS))

        async def check(token: str) -> None:
            key = client.get_signing_key_from_jwt(token)
            jwt.decode(token, key, ["ES256"], audience="authenticated")

        await check(server.token)
        yield check

    return checking


async def measure(checking: Checking, server: KeyServer, seconds: float) -> Measured:
    """One round."""
    measured = Measured()
    async with checking() as check, _Tasks() as tasks:
        until = time.perf_counter() + seconds
        if check is not None:
            tasks.start(_check_until(until, check, server, measured.checks, tasks))
        while time.perf_counter() < until:
            began = time.perf_counter()
            await asyncio.sleep(TIMER_SECONDS)
            late = time.perf_counter() - began - TIMER_SECONDS
            measured.lags.append(max(late, 0.0) * 1000)
    return measured


class _Tasks:
    """Tasks that end with the block."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "_Tasks":
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    def start(self, work: Awaitable[None]) -> None:
        """Run it beside the block."""
        self._tasks.add(asyncio.ensure_future(work))


async def _check_until(
    until: float, check: Check, server: KeyServer, checks: list[float], tasks: _Tasks
) -> None:
    count = 0
    while time.perf_counter() < until:
        began = time.perf_counter()
        await check(server.token)
        checks.append((time.perf_counter() - began) * 1000)
        count += 1
        if count % UNKNOWN_EVERY == 0:
            tasks.start(_refused(check, server.unknown))
        await asyncio.sleep(PAUSE_SECONDS)


async def _refused(check: Check, token: str) -> None:
    with contextlib.suppress(UnauthenticatedError, jwt.PyJWKClientError):
        await check(token)
        raise SystemExit("A token of an unknown key was believed.")


def percentile(values: list[float], name: str) -> float:
    """``p50``, ``p99`` or ``max``."""
    ordered = sorted(values)
    at = {"p50": 0.5, "p99": 0.99, "max": 1.0}[name]
    return ordered[min(len(ordered) - 1, int(at * len(ordered)))]


def tell(rounds: dict[str, list[Measured]]) -> None:
    """Print the figures."""
    baseline = next(iter(rounds))
    title("lag of the event loop (a timer of 5 ms), medians of the rounds")
    for name, measured in rounds.items():
        for figure in FIGURES:
            lags = Sample([percentile(one.lags, figure) for one in measured])
            idle_lags = Sample([percentile(one.lags, figure) for one in rounds[baseline]])
            note = "" if name == baseline else f"{pairwise(lags, idle_lags).text('x', 2).strip()}"
            row(f"{name}, {figure}", lags.text("ms", 2), note)
    title(f"share of the time in which the loop stood still for more than {STANDSTILL_MS:.0f} ms")
    for name, measured in rounds.items():
        row(name, Sample([one.standstill for one in measured]).text("%"))
    title("checking a token whose key is known")
    for name, measured in rounds.items():
        for figure in FIGURES if name != baseline else ():
            row(
                f"{name}, {figure}",
                Sample([percentile(one.checks, figure) for one in measured]).text("ms", 2),
            )


async def run(seconds: float, times: int) -> None:
    """Measure in turn, and print."""
    with key_server(0.0) as quick, key_server(ANSWER_SECONDS) as slow_one:
        kinds: dict[str, tuple[Checking, KeyServer]] = {
            "idle loop, same process (baseline)": (idle, quick),
            "checks, key server at once": (sidecars(quick), quick),
            "checks, key server 2 s": (sidecars(slow_one), slow_one),
            "PyJWKClient, key server 2 s": (stock(slow_one), slow_one),
        }
        rounds: dict[str, list[Measured]] = {name: [] for name in kinds}
        for _ in range(times):
            for name, (checking, server) in kinds.items():
                rounds[name].append(await measure(checking, server, seconds))
    tell(rounds)


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve is not None:
        asyncio.run(serve(asked.serve))
        return
    print(machine())
    asyncio.run(run(asked.seconds, asked.rounds))


if __name__ == "__main__":
    main()

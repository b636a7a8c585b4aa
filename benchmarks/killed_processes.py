"""What killed_runs.py kills: the sidecar, and a ComfyUI that counts what it executes."""

import asyncio
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fakes")]

from comfyui_server import ComfyUIServer, find_comfyui, make_tiny_models  # noqa: E402
from databases import PostgresStudios  # noqa: E402
from pgbouncer import PgBouncer  # noqa: E402
from postgres_server import PostgresServer  # noqa: E402

from sidecar.demo_files import demo_prompt  # noqa: E402

HOST = "127.0.0.1"
STEP_SECONDS = 0.1
CHECKPOINT = "tiny-sd15.ckpt"


class Child:
    """One Python process that is killed and started again."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._command = command
        self._environment = environment
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; its output is appended to the log."""
        with self._log.open("ab") as sink:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self._command,
                cwd=ROOT,
                env={**os.environ, **self._environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.returncode is None

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()


class CountingComfyUI(Protocol):
    """A ComfyUI whose executions are written to a file, one prompt id a line."""

    url: str
    loras: Path
    ledger: Path

    def prompt(self) -> dict[str, Any]:
        """Text to image with a LoRA; its executions are counted."""

    async def start(self) -> None:
        """Start it."""

    async def kill(self) -> None:
        """SIGKILL."""


class CountingStandIn(Child):
    """The stand-in for ComfyUI."""

    def __init__(self, folder: Path, port: int) -> None:
        base = folder / "comfyui"
        self.url = f"http://{HOST}:{port}"
        self.loras = folder / "loras"
        self.ledger = base / "executions.log"
        command = [
            *("-m", "sidecar.comfyui.stand_in", "--port", str(port)),
            *("--base-dir", str(base), "--loras-dir", str(self.loras)),
            *("--step-seconds", str(STEP_SECONDS)),
        ]
        super().__init__(command, {}, folder / "comfyui.log")

    def prompt(self) -> dict[str, Any]:
        """See CountingComfyUI."""
        return demo_prompt(CHECKPOINT)


class CountingRealComfyUI:
    """The real one, with a node that counts."""

    def __init__(self, folder: Path) -> None:
        found = find_comfyui()
        if found is None:
            raise SystemExit("no ComfyUI: set COMFYUI_DIR and COMFYUI_PYTHON")
        self._server = ComfyUIServer(found, folder / "comfyui")
        self._server.add_models(make_tiny_models(found, folder / "tiny-models"))
        self._server.add_pack(ROOT / "benchmarks" / "execution_ledger", "execution_ledger")
        self.url = self._server.url
        self.loras = self._server.loras_dir
        self.ledger = folder / "executions.log"

    def prompt(self) -> dict[str, Any]:
        """See CountingComfyUI."""
        prompt = demo_prompt(CHECKPOINT)
        counted = {"images": prompt["8"]["inputs"]["images"]}
        prompt["9"] = {"class_type": "ExecutionLedger", "inputs": counted}
        prompt["8"]["inputs"]["images"] = ["9", 0]
        return prompt

    async def start(self) -> None:
        """See CountingComfyUI."""
        environment = {"EXECUTION_LEDGER": str(self.ledger)}
        await asyncio.to_thread(self._server.start, env=environment)

    async def kill(self) -> None:
        """See CountingComfyUI."""
        await asyncio.to_thread(self._server.kill)


class KilledPostgres:
    """A Postgres of its own, reached directly or through pgbouncer in transaction mode."""

    def __init__(self, *, pooled: bool) -> None:
        self._server = PostgresServer(fsync="on", synchronous_commit="on", full_page_writes="on")
        self._server.start()
        studios = PostgresStudios(self._server)
        name = studios.new()
        self._pooler = PgBouncer(self._server, "transaction") if pooled else None
        if self._pooler is not None:
            self._pooler.start()
        self.url = studios.url(name) if self._pooler is None else self._pooler.url(name)

    async def crash(self, seconds: float) -> None:
        """End every process of it at once, as a crash does, and bring it back."""
        await asyncio.to_thread(self._server.halt)
        await asyncio.sleep(seconds)
        if not await asyncio.to_thread(self._server.resume):
            raise SystemExit(f"FAILED: Postgres did not come back:\n{self._server.log()}")

    def stop(self) -> None:
        """End it."""
        if self._pooler is not None:
            self._pooler.stop()
        self._server.stop()


class Stand:
    """The processes, and what they left."""

    def __init__(
        self, folder: Path, comfyui: CountingComfyUI, port: int, database: KilledPostgres | None
    ) -> None:
        self.comfyui = comfyui
        self.host = f"http://{HOST}:{port}"
        environment = {
            "COMFYUI_URL": comfyui.url,
            "COMFYUI_LORAS_DIR": str(comfyui.loras),
            "ATELIER_DATA_DIR": str(folder / "data"),
            "ATELIER_PORT": str(port),
            "ATELIER_RUN_ATTEMPTS": "20",
            **({} if database is None else {"DATABASE_URL": database.url}),
        }
        self.database = database
        self.sidecar = Child(["-m", "sidecar", "serve"], environment, folder / "sidecar.log")
        self._lives: list[int] = []

    async def start_comfyui(self) -> None:
        """A new life of ComfyUI: executions before it were another's."""
        self._lives.append(len(self.executions()))
        await self.comfyui.start()

    async def stop(self) -> None:
        """End all of them."""
        await self.sidecar.kill()
        await self.comfyui.kill()
        if self.database is not None:
            self.database.stop()

    def executions(self) -> list[str]:
        """Prompt ids in the order in which ComfyUI executed them."""
        ledger = self.comfyui.ledger
        return ledger.read_text().split() if ledger.exists() else []

    def doubled(self) -> list[str]:
        """Run ids that one life of ComfyUI executed more than once."""
        executed = self.executions()
        ends = [*self._lives[1:], len(executed)]
        lives = [executed[start:end] for start, end in zip(self._lives, ends, strict=True)]
        return [run for life in lives for run, count in Counter(life).items() if count > 1]

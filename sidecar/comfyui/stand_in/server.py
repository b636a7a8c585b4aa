"""The stand-in as a server, with the knobs that tests turn."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from .core_nodes import CORE_NODES
from .folders import Folders
from .http_api import HttpApi, as_comfyui_fails
from .ledger import Ledger
from .lora_nodes import LORA_NODES
from .nodes import NodeClass, Prompt
from .queue import PromptQueue
from .savers import SAVERS
from .sockets import Sockets
from .worker import Worker

MAX_BODY_BYTES = 100 << 20
REMEMBERED_REQUESTS = 1000


@dataclass(frozen=True)
class Received:
    """One request that arrived."""

    method: str
    path: str
    headers: Mapping[str, str]


class StandIn:
    """A ComfyUI without models.

    ``base_dir`` gets output, input, temp and ``executions.log``. ``step_seconds`` is how long each
    sampling step takes. ``checkpoints`` are the names that may be asked for.

    Knobs: ``answer_status`` answers every request with that status and a page of HTML;
    ``delay_seconds`` comes before every answer; see also the methods.
    """

    def __init__(
        self,
        base_dir: Path,
        loras_dir: Path,
        *,
        step_seconds: float = 0.0,
        extra_nodes: Iterable[NodeClass] = (),
        checkpoints: Sequence[str] = ("tiny-sd15.ckpt",),
    ) -> None:
        self.folders = Folders(base_dir.absolute(), loras_dir.absolute(), checkpoints)
        self.folders.make()
        nodes = (*CORE_NODES, *LORA_NODES, *SAVERS, *extra_nodes)
        self.classes = {node.name: node for node in nodes}
        self._ledger = Ledger(base_dir / "executions.log")
        self._step_seconds = step_seconds
        self.answer_status: int | None = None
        self.delay_seconds = 0.0
        self.requests: deque[Received] = deque(maxlen=REMEMBERED_REQUESTS)
        self.stopped_by: list[str] = []
        self._working: asyncio.Task[None] | None = None
        self._start_afresh()

    @property
    def executions(self) -> Mapping[str, int]:
        """How often each prompt id began to be executed, by this process or one before it."""
        return self._ledger.executions

    def app(self) -> web.Application:
        """An application that serves this; the worker runs while it does."""
        middlewares = [self._turn_knobs, as_comfyui_fails]
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=middlewares)
        app.add_routes(HttpApi(self).routes())
        app.cleanup_ctx.append(self._run_worker)
        app.on_shutdown.append(self._close_sockets)
        return app

    def queue_info(self) -> dict[str, Any]:
        """How many prompts wait or run, as ComfyUI says it."""
        return {"exec_info": {"queue_remaining": self.queue.remaining}}

    def hold(self) -> None:
        """Stop what runs before its next step or node, until ``release``."""
        self.worker.hold()

    def release(self) -> None:
        """Go on."""
        self.worker.release()

    def free(self, *, memory: bool) -> None:
        """Empty the caches before the next prompt, as ``POST /free`` asks."""
        if memory and self.queue.running:
            self.worker.free_memory = True
        elif memory:
            self.worker.cache.clear()

    async def drop_websockets(self) -> None:
        """Cut every websocket."""
        await self.sockets.drop()

    @property
    def silent_websocket(self) -> bool:
        """Whether websockets stay open and say nothing."""
        return self.sockets.silent

    @silent_websocket.setter
    def silent_websocket(self, silent: bool) -> None:
        self.sockets.silent = silent

    def clear_history(self) -> None:
        """Forget what has ended."""
        self.queue.history.clear()

    async def forget_everything(self) -> None:
        """What a restart does: queue, running prompt, history and caches are gone."""
        await self._stop_working()
        await self.sockets.drop()
        self._start_afresh()
        self._start_working()

    def note_what_stops_comfyui(self, prompt: Prompt, extra_data: Any) -> None:
        """Write down a request that the real ComfyUI would not have survived."""
        if extra_data is None:
            self.stopped_by.append("extra_data is null")
        elif isinstance(extra_data, dict) and not isinstance(extra_data.get("client_id", ""), str):
            self.stopped_by.append("client_id is no string")
        for node_id, node in prompt.items():
            if not isinstance(node.get("inputs"), dict):
                self.stopped_by.append(f"node {node_id} has no object inputs")

    def _start_afresh(self) -> None:
        self.sockets = Sockets()
        self.queue = PromptQueue(self._say_status)
        self.worker = Worker(
            self.queue, self.sockets, self.classes, self.folders, self._ledger, self._step_seconds
        )

    def _say_status(self) -> None:
        self.sockets.say("status", {"status": self.queue_info()}, None)

    def _start_working(self) -> None:
        self._working = asyncio.create_task(self._work())

    async def _work(self) -> None:
        publisher = asyncio.create_task(self.sockets.publish())
        try:
            await self.worker.work()
        except Exception as error:
            # the real worker thread ends here too: nothing runs again until a restart
            self.stopped_by.append(f"the worker died of {type(error).__name__}: {error}")
            await publisher
        finally:
            publisher.cancel()
            await asyncio.wait([publisher])

    async def _stop_working(self) -> None:
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])
            self._working = None

    async def _run_worker(self, _app: web.Application) -> AsyncIterator[None]:
        self._start_working()
        yield
        await self._stop_working()
        self._start_afresh()

    async def _close_sockets(self, _app: web.Application) -> None:
        await self.sockets.drop()

    @web.middleware
    async def _turn_knobs(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(Received(request.method, request.path, dict(request.headers)))
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        if self.answer_status is not None:
            page = "<html><body>This page is no answer.</body></html>"
            return web.Response(status=self.answer_status, text=page, content_type="text/html")
        answer: web.StreamResponse = await handler(request)
        return answer


@asynccontextmanager
async def serving(
    stand_in: StandIn, port: int = 0, *, host: str = "127.0.0.1"
) -> AsyncIterator[str]:
    """Serve it; the URL. Afterwards it has forgotten what a ComfyUI forgets when it ends."""
    runner = web.AppRunner(stand_in.app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()

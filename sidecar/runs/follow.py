"""Following a prompt through ComfyUI until it is done there, or gone."""

import asyncio
import json
import math
import re
from collections.abc import Mapping
from typing import Any, TypeGuard

from ..comfyui import ComfyUI, HistoryEntry, Message, Place, Whereabouts
from ..engine import Go
from .journal import RunJournal
from .models import Progress, Run, RunError, Status
from .patience import Patience
from .watch import ComfyWatch, Followed

_NUL = re.compile(r"((?<!\\)(?:\\\\)*)\\u0000")
_FALLBACK_SECONDS = 30.0
_BURST_SECONDS = 0.05
"""Messages come in bursts; each look costs a read of the run's row."""
_PROGRESS_SECONDS = 0.25
"""Progress is stored, so that a reconnecting listener misses nothing: four a second is plenty."""


class Follower:
    """Turns what ComfyUI tells into the run's progress, and its end into a history entry."""

    def __init__(
        self,
        comfyui: ComfyUI,
        watch: ComfyWatch,
        journal: RunJournal,
        patience: Patience,
        max_attempts: int,
    ) -> None:
        self._comfyui = comfyui
        self._watch = watch
        self._journal = journal
        self._patience = patience
        self._max_attempts = max_attempts

    async def follow(self, run: Run) -> Go:
        """Wait for the end. The run's row then holds ``history``; RunEndedError when cancelled."""
        teller = _Teller(self._journal, run)
        with self._watch.following(str(run.id)) as followed:
            while True:
                followed.woken.clear()
                if followed.check:
                    followed.check = False
                    where = await self._patience.repeat(run.id, lambda: self._find(run))
                    if where.place is Place.FINISHED:
                        await teller.running()
                        await teller.tell(followed.take())
                        return await self._executed(run, _from_entry(where.entry))
                    if where.place is Place.UNKNOWN:
                        return await self._gone(run, followed)
                    followed.place = where.place
                if followed.place is Place.RUNNING:
                    await teller.running()
                await teller.tell(followed.take())
                await self._patience.while_running(run.id, _woken(followed, teller.wait_seconds()))

    async def _find(self, run: Run) -> Whereabouts:
        return await self._comfyui.find(str(run.id))

    async def _executed(self, run: Run, history: dict[str, Any]) -> Go:
        return Go.ON if await self._journal.executed(run, history) else Go.STOP

    async def _gone(self, run: Run, followed: Followed) -> Go:
        """ComfyUI knows nothing of it any more: cleared, removed, or forgotten by a restart."""
        if followed.ended is not None:
            return await self._executed(run, _from_messages(followed.ended, followed.outputs))
        same_process = followed.epoch == self._watch.epoch and self._watch.connected.is_set()
        if same_process and followed.place is Place.PENDING and not followed.started:
            error = RunError("removed_from_queue", "The prompt was removed from ComfyUI's queue.")
            await self._journal.finish(run, Status.CANCELLED, error=error)
            return Go.STOP
        lost = RunError(
            "comfyui_lost_prompt",
            "ComfyUI stopped, or forgot this prompt, at every attempt.",
            None,
            {"attempts": run.attempts},
        )
        await self._journal.requeue(run, self._max_attempts, lost)
        return Go.STOP


class _Teller:
    """Stores progress, not more often than anyone can see."""

    def __init__(self, journal: RunJournal, run: Run) -> None:
        self._journal = journal
        self._run = run
        self._is_running = run.status is Status.RUNNING
        self._waiting: Progress | None = None
        self._told_at = 0.0
        self._node: str | None = None

    def wait_seconds(self) -> float:
        """How long nothing needs to be told."""
        return _FALLBACK_SECONDS if self._waiting is None else _PROGRESS_SECONDS

    async def running(self) -> None:
        """ComfyUI has begun."""
        if not self._is_running:
            self._is_running = True
            await self._journal.running(self._run)

    async def tell(self, messages: list[Message]) -> None:
        """Take in messages and store what is due."""
        for message in messages:
            await self._take(message)
        now = asyncio.get_running_loop().time()
        if self._waiting is not None and now - self._told_at >= _PROGRESS_SECONDS:
            await self._journal.progress(self._run, "progress", self._waiting)
            self._waiting, self._told_at = None, now

    async def _take(self, message: Message) -> None:
        data = message.data
        if message.type in ("execution_start", "executing", "progress", "progress_state"):
            await self.running()
        if message.type == "executing" and isinstance(data.get("node"), str):
            if data["node"] != self._node:
                self._node = data["node"]
                self._waiting = None
                await self._journal.progress(self._run, "node", Progress(0, 1, self._node))
        elif message.type == "progress":
            node = data.get("node")
            value, top = data.get("value"), data.get("max")
            if _is_finite(value) and _is_finite(top):
                self._waiting = Progress(value, top, node if isinstance(node, str) else self._node)


async def _woken(followed: Followed, seconds: float) -> None:
    try:
        await asyncio.wait_for(followed.woken.wait(), seconds)
        await asyncio.sleep(_BURST_SECONDS)
    except asyncio.TimeoutError:
        if seconds >= _FALLBACK_SECONDS:
            followed.check = True


def _from_entry(entry: HistoryEntry | None) -> dict[str, Any]:
    if entry is None:
        raise ValueError("a finished prompt has a history entry")
    return _storable(
        {
            "status": entry.status,
            "outputs": dict(entry.outputs),
            "messages": [[kind, _without_inputs(data)] for kind, data in entry.messages],
        }
    )


def _from_messages(ended: Message, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """The history entry of a run whose entry was cleared, from what the websocket told."""
    return _storable(
        {
            "status": "success" if ended.type == "execution_success" else "error",
            "outputs": dict(outputs),
            "messages": [[ended.type, _without_inputs(ended.data)]],
        }
    )


def _without_inputs(data: Mapping[str, Any]) -> dict[str, Any]:
    """An execution error carries all input values and a traceback with paths: not kept."""
    dropped = ("current_inputs", "current_outputs", "traceback")
    return {key: value for key, value in data.items() if key not in dropped}


def _storable(history: dict[str, Any]) -> dict[str, Any]:
    """Without what ComfyUI may send and no database takes.

    That is NaN and infinity, half a surrogate pair, and NUL.
    """
    text = json.dumps(history, ensure_ascii=False).encode("utf-8", "replace").decode()
    text = _NUL.sub(r"\1\\ufffd", text)
    stored: dict[str, Any] = json.loads(text, parse_constant=lambda _: None)
    return stored


def _is_finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)

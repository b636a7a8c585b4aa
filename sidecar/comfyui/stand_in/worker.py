"""Runs prompts, one at a time and in order, and says so as ComfyUI does."""

import asyncio
import time
import traceback
from collections.abc import Mapping
from typing import Any

from .cache import Cache
from .folders import Folders
from .ledger import Ledger
from .nodes import NodeClass, Result, StopProcessing, Work, input_spec, is_link
from .order import Order
from .queue import Item, PromptQueue
from .sockets import Sockets


class Worker:
    """The one that executes."""

    def __init__(
        self,
        queue: PromptQueue,
        sockets: Sockets,
        classes: Mapping[str, NodeClass],
        folders: Folders,
        ledger: Ledger,
        step_seconds: float,
    ) -> None:
        self._queue = queue
        self._sockets = sockets
        self.classes = classes
        self.folders = folders
        self._ledger = ledger
        self._step_seconds = step_seconds
        self._interrupted = False
        self._held = False
        self._stirred = asyncio.Event()
        self.cache = Cache()
        self.free_memory = False

    async def work(self) -> None:
        """Run what is queued, for ever; an exception here is the death of ComfyUI's worker."""
        while True:
            item = await self._queue.take()
            self._interrupted = False
            run = _Run(self, self._sockets, item)
            self._ledger.note(item[1])
            await run.execute()
            self._queue.finish(run.result(), run.status())
            if run.client_id is not None:
                self._sockets.say("executing", {"node": None, "prompt_id": item[1]}, run.client_id)
            if self.free_memory:
                self.cache.clear()
                self.free_memory = False

    def hold(self) -> None:
        """Stop before the next step, until ``release`` or an interrupt."""
        self._held = True
        self._stirred.clear()

    def release(self) -> None:
        """Go on."""
        self._held = False
        self._stirred.set()

    def interrupt(self) -> None:
        """Stop what runs at its next step."""
        self._interrupted = True
        self._stirred.set()

    async def breathe(self, *, step: bool = False) -> None:
        """Between two steps; StopProcessing when somebody asked for it."""
        if step and self._step_seconds:
            await asyncio.sleep(self._step_seconds)
        while self._held and not self._interrupted:
            self._stirred.clear()
            await self._stirred.wait()
        if self._interrupted:
            self._interrupted = False
            raise StopProcessing


class _Run:
    """One prompt, from its start to its history entry."""

    def __init__(self, worker: Worker, sockets: Sockets, item: Item) -> None:
        _, self._prompt_id, self._prompt, self._extra_data, self._outputs = item
        # TypeError for extra_data null: ComfyUI's worker ends there too
        self.client_id = self._extra_data["client_id"] if "client_id" in self._extra_data else None  # noqa: SIM401
        self._worker = worker
        self._sockets = sockets
        self._cache = worker.cache
        self._messages: list[tuple[str, Any]] = []
        self._states: dict[str, dict[str, Any]] = {}
        self._executed: list[str] = []
        self._current: dict[str, Any] = {}
        self._success = True

    def result(self) -> dict[str, Any]:
        """Outputs and meta of the history entry, those of cached nodes too."""
        shown = {node_id: self._cache.result(node_id) for node_id in self._prompt}
        outputs = {n: r.ui for n, r in shown.items() if r is not None and r.ui is not None}
        meta = {
            n: {"node_id": n, "display_node": n, "parent_node": None, "real_node_id": n}
            for n in outputs
        }
        return {"outputs": outputs, "meta": meta}

    def status(self) -> dict[str, Any]:
        """Status of the history entry."""
        return {
            "status_str": "success" if self._success else "error",
            "completed": self._success,
            "messages": self._messages,
        }

    async def execute(self) -> None:
        """Run it; what a node raises ends the prompt, not this."""
        self._note("execution_start", {"prompt_id": self._prompt_id})
        self._cache.begin(self._prompt, self._worker.classes)
        cached = [node for node in self._prompt if self._cache.result(node) is not None]
        self._note("execution_cached", {"nodes": cached, "prompt_id": self._prompt_id})
        order = Order(self._prompt, self._worker.classes, cached)
        for node_id in self._outputs:
            order.add(node_id)
        while (current := order.next()) is not None:
            try:
                await self._node(current)
            except StopProcessing:
                self._fail("execution_interrupted", current, {}, broadcast=True)
                return
            except Exception as error:
                self._fail("execution_error", current, self._about(error))
                return
            order.done(current)
        self._note("execution_success", {"prompt_id": self._prompt_id})

    async def _node(self, node_id: str) -> None:
        if (known := self._cache.result(node_id)) is not None:
            self._say_executed(node_id, known)
            self._progress(node_id, finished=True)
            return
        self._current = {}
        self._progress(node_id)
        self._current = self._inputs(node_id)
        self._say("executing", {"node": node_id, "display_node": node_id})
        await self._worker.breathe()
        node_class = self._worker.classes[self._prompt[node_id]["class_type"]]

        async def progress(value: int, total: int) -> None:
            await self._worker.breathe(step=True)
            self._progress(node_id, value, total)
            self._say("progress", {"value": value, "max": total, "node": node_id})

        work = Work(
            self._worker.folders,
            self._prompt,
            self._extra_data.get("extra_pnginfo"),
            self._cache.memory(node_id, node_class.name),
            progress,
        )
        result = await node_class.run(work, **self._current)
        if result.ui is not None:
            self._say_executed(node_id, result)
        self._cache.keep(node_id, result)
        self._progress(node_id, finished=True)
        self._executed.append(node_id)

    def _inputs(self, node_id: str) -> dict[str, Any]:
        node_class = self._worker.classes[self._prompt[node_id]["class_type"]]
        declared = node_class.inputs(self._worker.folders)
        values = {}
        for name, value in self._prompt[node_id]["inputs"].items():
            _, kind, _ = input_spec(declared, name)
            if is_link(value):
                source = self._cache.result(value[0])
                values[name] = source.values[value[1]] if source is not None else None
            elif kind is not None or node_class.open_ended:
                values[name] = value
        return values

    def _about(self, error: Exception) -> dict[str, Any]:
        kind = type(error)
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        return {
            "exception_message": f"{error}\n",
            "exception_type": f"{module}{kind.__qualname__}",
            "traceback": traceback.format_tb(error.__traceback__),
            "current_inputs": {name: [_shown(v)] for name, v in self._current.items()},
            "current_outputs": list(self._prompt),
        }

    def _fail(
        self, kind: str, node_id: str, about: Mapping[str, Any], *, broadcast: bool = False
    ) -> None:
        self._success = False
        data = {
            "prompt_id": self._prompt_id,
            "node_id": node_id,
            "node_type": self._prompt[node_id]["class_type"],
            "executed": list(self._executed),
            **about,
        }
        self._note(kind, data, broadcast=broadcast)

    def _note(self, kind: str, data: dict[str, Any], *, broadcast: bool = False) -> None:
        """A message that is also kept in the history."""
        stamped = {**data, "timestamp": int(time.time() * 1000)}
        self._messages.append((kind, stamped))
        if self.client_id is not None or broadcast:
            self._sockets.say(kind, stamped, self.client_id)

    def _say(self, kind: str, data: dict[str, Any]) -> None:
        if self.client_id is not None or kind == "progress":
            self._sockets.say(kind, {**data, "prompt_id": self._prompt_id}, self.client_id)

    def _say_executed(self, node_id: str, result: Result) -> None:
        self._say("executed", {"node": node_id, "display_node": node_id, "output": result.ui})

    def _progress(
        self, node_id: str, value: float = 0.0, total: float = 1.0, *, finished: bool = False
    ) -> None:
        """Note a node's state and send the states of all that have begun."""
        state = self._states.setdefault(node_id, {"value": 0, "max": 1})
        if finished:
            state.update(value=state["max"], state="finished")
        else:
            state.update(value=value, max=total, state="running")
        ids = {"node_id": node_id, "prompt_id": self._prompt_id, "display_node_id": node_id}
        state.update(ids, parent_node_id=None, real_node_id=node_id)
        states = {"prompt_id": self._prompt_id, "nodes": self._states}
        # without a client id this goes to everybody, as in ComfyUI
        self._sockets.say("progress_state", states, self.client_id)


def _shown(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float | bool | str) else str(value)

"""The queue and the history: what waits, what runs, what ended. In memory only, as in ComfyUI."""

import asyncio
import copy
import heapq
from collections.abc import Callable
from typing import Any, TypeAlias

MAX_HISTORY = 10_000
SECRET_EXTRA_DATA = ("auth_token_comfy_org", "api_key_comfy_org")

Item: TypeAlias = tuple[float, str, dict[str, Any], dict[str, Any], list[str]]
"""``(number, prompt_id, prompt, extra_data, ids of the outputs to execute)``; lowest first."""


class PromptQueue:
    """``changed`` is called whenever the number of prompts that wait or run may have changed."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._some = asyncio.Event()
        self.pending: list[Item] = []
        self.running: list[Item] = []
        self.history: dict[str, dict[str, Any]] = {}

    @property
    def remaining(self) -> int:
        """How many wait or run."""
        return len(self.pending) + len(self.running)

    def put(self, item: Item) -> None:
        """Add a prompt. The same number and id twice is an error, as in ComfyUI."""
        heapq.heappush(self.pending, item)
        self._some.set()
        self._changed()

    async def take(self) -> Item:
        """Wait for a prompt and move it to those that run."""
        while not self.pending:
            self._some.clear()
            await self._some.wait()
        item = heapq.heappop(self.pending)
        self.running.append(copy.deepcopy(item))
        self._changed()
        return item

    def finish(self, result: dict[str, Any], status: dict[str, Any]) -> None:
        """Move what runs to the history."""
        item = self.running.pop()
        if len(self.history) > MAX_HISTORY:
            del self.history[next(iter(self.history))]
        for secret in SECRET_EXTRA_DATA:
            if secret in item[3]:
                del item[3][secret]
        self.history[item[1]] = {"prompt": item, "outputs": {}, "status": status, **result}
        self._changed()

    def delete(self, prompt_id: Any) -> None:
        """Drop one that waits; one that runs goes on."""
        for index, item in enumerate(self.pending):
            if item[1] == prompt_id:
                del self.pending[index]
                heapq.heapify(self.pending)
                self._changed()
                return

    def clear(self) -> None:
        """Drop all that wait."""
        self.pending.clear()
        self._changed()

    def page_of_history(self, max_items: int | None, offset: int) -> dict[str, Any]:
        """The history, oldest first; a negative offset counts ``max_items`` from the end."""
        ids = list(self.history)
        if offset < 0 and max_items is not None:
            offset = len(ids) - max_items
        chosen = ids[max(offset, 0) :]
        if max_items is not None:
            # ComfyUI looks at the count after adding, so 0 gives one
            chosen = chosen[: max(max_items, 1)]
        return {prompt_id: self.history[prompt_id] for prompt_id in chosen}

"""One websocket and one queue poll for all runs that are followed.

The websocket tells of progress at once; the queue, asked now and then and whenever ComfyUI says
that it changed, tells what the websocket missed: it may be silent, cut, or another client's.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from ..comfyui import ComfyUI, Message, Place
from ..errors import AtelierError

log = logging.getLogger(__name__)

_ENDINGS = ("execution_success", "execution_error", "execution_interrupted")
_RECONNECT_SECONDS = (0.2, 5.0)
_KEPT_MESSAGES = 1000


@dataclass(eq=False)
class Followed:
    """What is known of one prompt in ComfyUI.

    ``check`` says that only /history can tell now. ``outputs`` and ``ended`` are what the websocket
    told, for a history that was cleared.
    """

    prompt_id: str
    epoch: int
    place: Place | None = None
    check: bool = True
    started: bool = False
    ended: Message | None = None
    outputs: dict[str, Any] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self) -> list[Message]:
        """The messages since the last time."""
        taken, self.messages = self.messages, []
        return taken


class ComfyWatch:
    """Watches this pair's ComfyUI. ``epoch`` counts its connections: a new one may be a restart."""

    def __init__(self, comfyui: ComfyUI, poll_seconds: float = 2.0) -> None:
        self._comfyui = comfyui
        self._poll_seconds = poll_seconds
        self._followed: dict[str, Followed] = {}
        self._look = asyncio.Event()
        self.epoch = 0
        self.connected = asyncio.Event()

    def expect(self, prompt_id: str) -> None:
        """Keep what is told of a prompt from before it is submitted: it may end at once."""
        self._followed.setdefault(prompt_id, Followed(prompt_id, self.epoch))

    def dismiss(self, prompt_id: str) -> None:
        """Nothing will come of this prompt."""
        self._followed.pop(prompt_id, None)

    @contextmanager
    def following(self, prompt_id: str) -> Iterator[Followed]:
        """Follow one prompt until the block ends."""
        self.expect(prompt_id)
        try:
            yield self._followed[prompt_id]
        finally:
            self.dismiss(prompt_id)

    async def run(self) -> None:
        """Listen and poll until cancelled."""
        listening = asyncio.create_task(self._listen())
        try:
            await self._poll()
        finally:
            listening.cancel()
            await asyncio.wait({listening})

    async def _listen(self) -> None:
        pause, longest = _RECONNECT_SECONDS
        while True:
            try:
                async with self._comfyui.messages() as messages:
                    pause = _RECONNECT_SECONDS[0]
                    self.epoch += 1
                    self.connected.set()
                    self._check_all()
                    async for message in messages:
                        self._deliver(message)
            except AtelierError as error:
                log.debug("comfyui.websocket", extra={"code": error.code})
            self.connected.clear()
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)

    def _deliver(self, message: Message) -> None:
        if message.type == "status":
            self._look.set()
            return
        followed = self._followed.get(str(message.data.get("prompt_id")))
        if followed is None:
            return
        if message.type == "executed" and isinstance(message.data.get("output"), dict):
            followed.outputs[str(message.data.get("node"))] = message.data["output"]
        followed.started = True
        if message.type in _ENDINGS:
            followed.ended = message
            followed.check = True
        if len(followed.messages) < _KEPT_MESSAGES:
            followed.messages.append(message)
        followed.woken.set()

    async def _poll(self) -> None:
        while True:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._look.wait(), self._poll_seconds)
            self._look.clear()
            if self._followed:
                await self._look_at_queue()
                await asyncio.sleep(0.05)  # a burst of news is one look

    async def _look_at_queue(self) -> None:
        before = list(self._followed.values())
        try:
            queue = await self._comfyui.queue()
        except AtelierError:
            self._check_all()  # whoever follows asks by itself, and knows how long to wait
            return
        running, pending = set(queue.running), set(queue.pending)
        for followed in before:
            place = None
            if followed.prompt_id in running:
                place = Place.RUNNING
            elif followed.prompt_id in pending:
                place = Place.PENDING
            if place is None:
                followed.check = True
                followed.woken.set()
            elif place is not followed.place:
                followed.place = place
                followed.woken.set()

    def _check_all(self) -> None:
        for followed in self._followed.values():
            followed.check = True
            followed.woken.set()

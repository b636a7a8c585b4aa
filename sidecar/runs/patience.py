"""Waiting for a ComfyUI that is away, as long as it is worth it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from ..errors import TimedOutError, UnavailableError, UpstreamError
from .feed import RunFeed

T = TypeVar("T")

_PAUSES = (0.2, 5.0)


class RunEndedError(Exception):
    """The run ended, or was cancelled, while a step worked on it."""


class Patience:
    """Repeats what fails because a system is away; stops early when the run has ended."""

    def __init__(
        self,
        feed: RunFeed,
        has_ended: Callable[[UUID], Awaitable[bool]],
        seconds: float,
    ) -> None:
        self._feed = feed
        self._has_ended = has_ended
        self._seconds = seconds

    async def repeat(self, run_id: UUID, call: Callable[[], Awaitable[T]]) -> T:
        """The call's result. After ``seconds`` of nothing but failures, the last error.

        Raises RunEndedError as soon as the run is final.
        """
        loop = asyncio.get_running_loop()
        pause, longest = _PAUSES
        give_up_at = loop.time() + self._seconds
        while True:
            try:
                return await call()
            except (UnavailableError, TimedOutError, UpstreamError) as error:
                # ComfyUI answers 500 while it starts; bytes that do not match never will
                hopeless = isinstance(error, UpstreamError) and error.details["system"] != "comfyui"
                if hopeless or loop.time() + pause > give_up_at:
                    raise
            await self.sleep(run_id, pause)
            pause = min(pause * 2, longest)

    async def sleep(self, run_id: UUID, seconds: float) -> None:
        """Wait. Raises RunEndedError as soon as the run is final."""
        await self.while_running(run_id, asyncio.sleep(seconds))

    async def while_running(self, run_id: UUID, work: Awaitable[T]) -> T:
        """Do the work; cancel it and raise RunEndedError as soon as the run is final."""
        task = asyncio.ensure_future(work)
        with self._feed.listening(run_id) as changed:
            try:
                while not task.done():
                    if await self._has_ended(run_id):
                        raise RunEndedError
                    news = asyncio.ensure_future(changed.wait())
                    try:
                        await asyncio.wait({task, news}, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        news.cancel()
                    changed.clear()
                return await task
            finally:
                if not task.done():
                    task.cancel()
                    await asyncio.wait({task})

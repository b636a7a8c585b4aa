"""Waiting for what another task or process brings about; pytest's timeout is the only limit."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], Awaitable[bool]], *, every: float = 0.02) -> None:
    """Return when the condition holds."""
    while not await condition():  # noqa: ASYNC110 -- the other side may be another process
        await asyncio.sleep(every)

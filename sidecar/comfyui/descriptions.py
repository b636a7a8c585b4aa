"""ComfyUI's node descriptions, kept for a while.

They are some 0.3 MB and change rarely, so nobody waits for them while a usable copy is known: a
copy older than ``seconds`` is handed out once more while a new one is fetched.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ..errors import AtelierError
from . import ObjectInfo

USABLE = 20
"""A copy is usable for this many times the age at which it is asked for again."""

log = logging.getLogger(__name__)


class Descriptions:
    """Single flight, stale while it is fetched again. Belongs to one event loop."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[ObjectInfo]],
        seconds: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._fetch = fetch
        self._seconds = seconds
        self._monotonic = monotonic
        self._known: tuple[ObjectInfo, float] | None = None
        self._flight: asyncio.Task[ObjectInfo] | None = None

    async def get(self) -> ObjectInfo:
        """A usable copy, at once where there is one."""
        if self._known is not None:
            info, since = self._known
            age = self._monotonic() - since
            if age < self._seconds:
                return info
            if age < self._seconds * USABLE:
                _ = self._take_off()
                return info
        return await self._arrival()

    async def get_fresh(self) -> ObjectInfo:
        """A copy that ComfyUI was asked for after this call."""
        if self._flight is not None:
            # it left before this call and may not have seen what the caller has changed
            await asyncio.wait([self._flight])
        return await self._arrival()

    async def close(self) -> None:
        """Stop a fetch that is on its way."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait([self._flight])

    async def _arrival(self) -> ObjectInfo:
        flight = self._take_off()
        # shielded: the flight is shared, so one caller that gives up must not end it
        return await asyncio.shield(flight)

    def _take_off(self) -> asyncio.Task[ObjectInfo]:
        if self._flight is None or self._flight.done():
            self._flight = asyncio.create_task(self._refresh())
            self._flight.add_done_callback(_report)
        return self._flight

    async def _refresh(self) -> ObjectInfo:
        asked = self._monotonic()
        info = await self._fetch()
        self._known = (info, asked)
        return info


def _report(flight: "asyncio.Task[ObjectInfo]") -> None:
    """Nobody may be waiting for this flight; say why it failed."""
    if not flight.cancelled() and (error := flight.exception()) is not None:
        code = error.code if isinstance(error, AtelierError) else type(error).__name__
        log.info("comfyui.object_info_not_refreshed", extra={"code": code})

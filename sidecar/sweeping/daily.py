"""A sweep every day, on one of the pairs that share a studio."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from ..database import Database
from ..errors import AtelierError
from ..principal import SYSTEM
from .service import Sweeper

FIRST_SECONDS = 3600.0
"""After a start, when there is other work."""
DAY_SECONDS = 24 * 3600.0

log = logging.getLogger(__name__)


@asynccontextmanager
async def swept_daily(sweeper: Sweeper, database: Database) -> AsyncIterator[None]:
    """Sweep now and then until the block ends."""
    task = asyncio.create_task(_sweep_without_end(sweeper, database))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _sweep_without_end(sweeper: Sweeper, database: Database) -> None:
    await asyncio.sleep(FIRST_SECONDS)
    while True:
        try:
            async with database.alone(SYSTEM, "sweep"):
                await sweeper.sweep()
        except AtelierError as error:  # tomorrow is another day
            log.warning("studio.not_swept", extra={"code": error.code})
        await asyncio.sleep(DAY_SECONDS)

"""The accounts room on each database."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from accounts_room import OpenRoom, Room, opened_room
from clock import FakeClock

from sidecar.database import Database


@pytest.fixture
async def open_room(database: Database, clock: FakeClock) -> AsyncIterator[OpenRoom]:
    """Opens the room with other ways to sign in: ``await open_room("local", "supabase")``."""
    async with AsyncExitStack() as stack:

        async def start(*ways: str) -> Room:
            return await stack.enter_async_context(opened_room(database, clock, ways))

        yield start


@pytest.fixture
async def room(open_room: OpenRoom) -> Room:
    """The room of a studio with accounts of its own."""
    return await open_room("local")

"""A LoRA library beside the stand-in for ComfyUI."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from clock import FakeClock
from lora_library import Library, opened_library

from sidecar.database import Database


@pytest.fixture
async def library(database: Database, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Library]:
    """Nobody has anything in it yet."""
    async with opened_library(database, clock, tmp_path) as library:
        yield library

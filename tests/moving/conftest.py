"""A studio to leave, and databases to move into."""

import argparse
import asyncio
import io
import shutil
from pathlib import Path

import pytest
from databases import PostgresStudios, migrated_file
from lived_in_studio import LivedIn, furnished
from moving_house import Copy, NewHouse

from sidecar.commands.copy import run


@pytest.fixture(scope="session")
def furnished_once(tmp_path_factory: pytest.TempPathFactory) -> LivedIn:
    """Takes a while to make: leave it as it is."""
    return asyncio.run(furnished(tmp_path_factory.mktemp("furnished") / "old"))


@pytest.fixture
def old(furnished_once: LivedIn, tmp_path: Path) -> LivedIn:
    """The studio to leave."""
    return LivedIn(Path(shutil.copytree(furnished_once.folder, tmp_path / "old")))


@pytest.fixture
def on_postgres(postgres: PostgresStudios, postgres_name: str, tmp_path: Path) -> NewHouse:
    """A new house on Postgres."""
    return NewHouse(postgres.url(postgres_name), tmp_path / "new")


@pytest.fixture
def on_sqlite(tmp_path: Path) -> NewHouse:
    """A new house on SQLite."""
    (tmp_path / "new").mkdir()
    return NewHouse(f"sqlite:///{migrated_file(tmp_path / 'new')}", tmp_path / "new")


@pytest.fixture(params=["on_sqlite", "on_postgres"])
def new(request: pytest.FixtureRequest) -> NewHouse:
    """A new house on each."""
    house: NewHouse = request.getfixturevalue(request.param)
    return house


@pytest.fixture
def copy() -> Copy:
    """Copies; the exit code and what was printed."""

    async def copied(
        old: LivedIn, new: NewHouse, *, with_blobs: bool = True, out: io.StringIO | None = None
    ) -> tuple[int, str]:
        asked = argparse.Namespace(to=new.url, to_blobs=new.blobs if with_blobs else None)
        printed = out or io.StringIO()
        code = await run(asked, old.settings, printed)
        return code, printed.getvalue()

    return copied

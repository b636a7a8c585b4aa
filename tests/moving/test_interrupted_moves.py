"""A move that is cut off, at whatever point, is completed by asking for it again."""

import asyncio
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from databases import PostgresStudios
from lived_in_studio import LivedIn
from moving_house import Copy, NewHouse
from postgres_server import PostgresServer

from sidecar.errors import UnavailableError

ROOT = Path(__file__).parents[2]
KILLS: dict[str, Callable[[str, NewHouse], bool]] = {
    "when it has begun": lambda line, _: "holds no rows" in line,
    "among the files": lambda _, new: len(list(new.blobs.rglob("*.png"))) > 5,
    "after the accounts": lambda line, _: line.startswith("accounts"),
    "after the workflows": lambda line, _: line.startswith("comfyui_workflow_versions"),
    "after the runs": lambda line, _: line.startswith("comfyui_workflow_runs"),
}


async def killed(old: LivedIn, new: NewHouse, when: Callable[[str, NewHouse], bool]) -> int:
    """The command in a process, killed as soon as ``when`` says so; its exit code."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sidecar", "copy"),
        *("--to", new.url, "--to-blobs", str(new.blobs)),
        cwd=ROOT,
        env={**os.environ, "ATELIER_DATA_DIR": str(old.folder), "DATABASE_URL": ""},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    lines: list[str] = []
    reading = asyncio.create_task(_read(process.stdout, lines))
    while not reading.done():
        if any(when(line, new) for line in ("", *lines)):
            process.kill()
            break
        await asyncio.sleep(0.001)
    await reading
    return await process.wait()


async def _read(stream: asyncio.StreamReader, lines: list[str]) -> None:
    while line := await stream.readline():
        lines.append(line.decode())


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
async def test_a_killed_move_goes_on(old: LivedIn, on_postgres: NewHouse, copy: Copy) -> None:
    before = old.fingerprints()
    for when in KILLS.values():
        assert await killed(old, on_postgres, when) in (-9, 0)

    code, printed = await copy(old, on_postgres)

    assert (code, "Everything has arrived" in printed) == (0, True)
    assert old.fingerprints() == before


@pytest.fixture
def own_postgres() -> Iterator[PostgresStudios]:
    """A server of this test's own."""
    server = PostgresServer(synchronous_commit="on")  # or it forgets what it has promised
    try:
        server.start()
        yield PostgresStudios(server)
    finally:
        server.stop()


class Pulls(io.StringIO):
    """Printed to, it stops the server at one line."""

    def __init__(self, server: PostgresServer, at: str) -> None:
        super().__init__()
        self._server = server
        self._at = at

    def write(self, line: str) -> int:
        if line.startswith(self._at):
            self._server.halt()
        return super().write(line)


async def test_a_database_that_goes_away_is_told_and_the_next_try_goes_on(
    old: LivedIn, own_postgres: PostgresStudios, copy: Copy, tmp_path: Path
) -> None:
    new = NewHouse(own_postgres.url(own_postgres.new()), tmp_path / "new")
    for table in ("The destination holds", "accounts", "comfyui_workflow_runs"):
        with pytest.raises(UnavailableError, match=r"The destination: .* Run the same command"):
            await copy(old, new, out=Pulls(own_postgres.server, table))
        assert own_postgres.server.resume()

    code, printed = await copy(old, new)
    assert (code, "holds rows of this studio" in printed) == (0, True)


async def test_a_database_that_is_not_there_is_told(
    old: LivedIn, own_postgres: PostgresStudios, copy: Copy, tmp_path: Path
) -> None:
    new = NewHouse(own_postgres.url(own_postgres.new()), tmp_path / "new")
    own_postgres.server.halt()
    with pytest.raises(UnavailableError, match="The destination: "):
        await copy(old, new)
    assert not new.blobs.exists()

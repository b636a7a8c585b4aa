"""Fixtures that every room's tests share."""

import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from clock import FakeClock
from comfyui_pair import Pair, side_by_side
from comfyui_server import (
    ComfyUIServer,
    Installation,
    find_comfyui,
    make_tiny_models,
    python_version,
)
from databases import PostgresStudios, migrated_file, opened, sqlite_database
from pack_in_comfyui import ComfyUIsWithPack, wait_for_sidecar
from postgres_server import PostgresServer
from s3_server import S3Server
from s3_server import s3_server as running_s3
from studio import DATABASE_URL, Studio, settings_for, stand_in_at
from studio import studio as running_studio

from sidecar.comfyui.stand_in import StandIn
from sidecar.database import Database

COMFYUI = pytest.StashKey[Installation | None]()
NO_COMFYUI = (
    "NO REAL COMFYUI: the tests marked `comfyui` are skipped; set COMFYUI_DIR and COMFYUI_PYTHON"
)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until it is told to move."""
    return FakeClock()


@pytest.fixture(scope="session")
def migrated_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    return migrated_file(tmp_path_factory.mktemp("migrated"))


@pytest.fixture
def database_file(tmp_path: Path, migrated_once: Path) -> Path:
    """A migrated SQLite file of this test's own."""
    return Path(shutil.copy(migrated_once, tmp_path))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A Postgres that all tests share; a test that stops one starts its own."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server of this test's own, to be stopped or given roles; as durable as a real one."""
    server = PostgresServer(fsync="on", synchronous_commit="on", full_page_writes="on")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def postgres(postgres_server: PostgresServer) -> PostgresStudios:
    """Makes databases on it."""
    return PostgresStudios(postgres_server)


@pytest.fixture
def postgres_name(postgres: PostgresStudios) -> Iterator[str]:
    """The name of a migrated Postgres database of this test's own."""
    name = postgres.new()
    yield name
    postgres.server.drop_database(name)


@pytest.fixture
def postgres_url(postgres: PostgresStudios) -> Iterator[str]:
    """An empty migrated Postgres database, for tests that leave its schema and grants alone."""
    name = postgres.borrow()
    yield postgres.url(name)
    postgres.give_back(name)


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """The database port, on each database: what holds on one holds on the other."""
    if request.param == "sqlite":
        async with sqlite_database(request.getfixturevalue("database_file")) as made:
            yield made
    else:
        async with opened(request.getfixturevalue("postgres_url")) as made:
            yield made


@pytest.fixture(params=["sqlite", "postgres"])
def each_database(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Has the sidecars of this test use each database in turn."""
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
        (tmp_path / DATABASE_URL).write_text(url, encoding="utf-8")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3 server that all tests share; a test that stops one starts its own."""
    with running_s3() as server:
        yield server


@pytest.fixture
def own_s3_server() -> Iterator[S3Server]:
    """A server of this test's own, to be stopped."""
    with running_s3() as server:
        yield server


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    """The name of a bucket of this test's own, which does not exist yet."""
    return s3_server.new_bucket()


def pytest_configure(config: pytest.Config) -> None:
    """Look for a real ComfyUI once."""
    config.stash[COMFYUI] = find_comfyui()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say loudly when nothing was compared with a real ComfyUI."""
    if config.stash[COMFYUI] is None:
        terminalreporter.write_line(NO_COMFYUI, yellow=True, bold=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a ComfyUI, skip what needs one; with one, give such tests the time it takes.

    Tests that share what is dear to make stay with one worker.
    """
    for item in items:
        if "tenancy" in item.path.parts:
            item.add_marker(pytest.mark.xdist_group("tenancy"))
        if item.get_closest_marker("comfyui") is None:
            continue
        item.add_marker(pytest.mark.xdist_group("comfyui"))
        item.add_marker(pytest.mark.timeout(300))
        if config.stash[COMFYUI] is None:
            item.add_marker(pytest.mark.skip(reason=NO_COMFYUI))


@pytest.fixture(scope="session")
def comfyui(pytestconfig: pytest.Config) -> Installation:
    """Where the real ComfyUI is; a test that asks for it is marked ``comfyui``."""
    found = pytestconfig.stash[COMFYUI]
    assert found is not None, NO_COMFYUI
    return found


@pytest.fixture(scope="session")
def tiny_models(comfyui: Installation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with tiny-sd15.ckpt, lora-a.safetensors and lora-b.safetensors."""
    return make_tiny_models(comfyui, tmp_path_factory.mktemp("tiny") / "models")


@pytest.fixture(scope="session")
def real_comfyui(
    comfyui: Installation, tiny_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyUIServer]:
    """One real server without packs, with the tiny models, shared by all tests: leave it clean."""
    server = ComfyUIServer(comfyui, tmp_path_factory.mktemp("comfyui"))
    server.add_models(tiny_models)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
async def pair(real_comfyui: ComfyUIServer, tmp_path: Path) -> AsyncIterator[Pair]:
    """That server and the stand-in, side by side."""
    async with side_by_side(real_comfyui, tmp_path / "stand-in") as both:
        yield both


@pytest.fixture
def new_comfyui(
    comfyui: Installation, tiny_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], ComfyUIServer]]:
    """Makes servers of this test's own, not started yet, with the tiny models."""
    made: list[ComfyUIServer] = []

    def make() -> ComfyUIServer:
        made.append(ComfyUIServer(comfyui, tmp_path_factory.mktemp("comfyui")))
        made[-1].add_models(tiny_models)
        return made[-1]

    try:
        yield make
    finally:
        for server in made:
            server.stop()


@pytest.fixture
async def served_stand_in(tmp_path: Path) -> AsyncIterator[tuple[StandIn, str]]:
    """A running stand-in for ComfyUI, and its URL."""
    async with stand_in_at(tmp_path) as served:
        yield served


@pytest.fixture
def stand_in(served_stand_in: tuple[StandIn, str]) -> StandIn:
    """The running stand-in."""
    return served_stand_in[0]


@pytest.fixture
async def studio(tmp_path: Path, served_stand_in: tuple[StandIn, str]) -> AsyncIterator[Studio]:
    """A sidecar beside that stand-in."""
    async with running_studio(settings_for(tmp_path, served_stand_in[1])) as made:
        yield made


@pytest.fixture(scope="session")
def start_with_pack(
    comfyui: Installation, tiny_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyUIsWithPack]:
    """Starts real ComfyUIs with the pack in them."""
    if sys.version_info[:2] != python_version(comfyui):
        pytest.skip("the pack's packages here are for another Python than ComfyUI's")
    servers = ComfyUIsWithPack(comfyui, tiny_models, tmp_path_factory.mktemp("with-pack"))
    yield servers
    servers.stop()


@pytest.fixture(scope="session")
def comfyui_with_pack(start_with_pack: ComfyUIsWithPack) -> ComfyUIServer:
    """One of them, its sidecar ready, shared by all tests: leave it alive."""
    server = start_with_pack()
    wait_for_sidecar(server)
    return server

"""Revision 0006, on both databases: files are named apart from keys, what never arrived goes."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from databases import APP_ROLE, PostgresStudios

from sidecar.database import migrations
from sidecar.database.migrations import migrate, sql_for_postgres
from sidecar.database.sqlite import sync_engine

OWNER, WHOLE, EMPTY = (UUID(int=n) for n in range(1, 4))
SHOWN = "select filename, state from comfyui_lora_versions order by version"
LAST = "select name, last_version from comfyui_lora_models"
INSERT_LORA = (
    "insert into comfyui_lora_models (id, owner_id, name, stem, tags, trigger_words, head_version,"
    " created_at, updated_at) values"
)
INSERT_VERSION = (
    "insert into comfyui_lora_versions (lora_id, version, owner_id, sha256, autov3, bytes,"
    " object_key, source, metadata, state, created_at) values"
)
STEP = "-- Running upgrade 0005 -> 0006"


def insertions(*, dashes: bool) -> Iterator[str]:
    """A LoRA with a stored and a pending version, and one of which nothing ever arrived."""

    def text(value: UUID) -> str:
        return f"'{value if dashes else value.hex}'"

    at = "'2026-01-01 00:00:00'"
    for lora, name, head in ((WHOLE, "my style", 1), (EMPTY, "nothing", 0)):
        yield (
            f"{INSERT_LORA} ({text(lora)}, {text(OWNER)}, '{name}', '{name}', '[]', '[]', {head},"
            f" {at}, {at})"
        )
    for lora, version, state in (
        (WHOLE, 1, "stored"),
        (WHOLE, 2, "pending"),
        (EMPTY, 1, "pending"),
    ):
        key = f"user-{OWNER}/loras/my style.0a1b2c3{version}.safetensors"
        yield (
            f"{INSERT_VERSION} ({text(lora)}, {version}, {text(OWNER)}, 's', 'a', 1, '{key}',"
            f" 'upload', '{{}}', '{state}', {at})"
        )


def test_a_studio_on_sqlite_keeps_its_files_under_their_names(tmp_path: Path) -> None:
    engine = sync_engine(tmp_path / "atelier.db")
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
        for insertion in insertions(dashes=False):
            connection.exec_driver_sql(insertion)
    migrate(engine)
    with engine.connect() as connection:
        versions = [tuple(row) for row in connection.execute(sa.text(SHOWN))]
        loras = [tuple(row) for row in connection.execute(sa.text(LAST))]
    engine.dispose()
    assert versions == [("my style.0a1b2c31.safetensors", "stored")]
    assert loras == [("my style", 1)]


@pytest.fixture
def before(postgres: PostgresStudios) -> Iterator[str]:
    """The name of a database at revision 0005 with these LoRAs in it."""
    name = postgres.empty()
    until_then, _ = sql_for_postgres(APP_ROLE).split(STEP)
    postgres.server.psql(f"{until_then}; commit;", name)
    postgres.server.psql(f"set search_path = atelier;{';'.join(insertions(dashes=True))}", name)
    yield name
    postgres.server.drop_database(name)


def test_a_studio_on_postgres_keeps_its_files_under_their_names(
    postgres: PostgresStudios, before: str
) -> None:
    _, step = sql_for_postgres(APP_ROLE).split(STEP)
    postgres.server.psql(f"begin; set search_path = atelier; {step}", before)
    shown = postgres.server.psql(f"set search_path = atelier; {SHOWN}; {LAST}", before)
    assert shown.splitlines() == ["my style.0a1b2c31.safetensors|stored", "my style|1"]

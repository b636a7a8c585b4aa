"""Rows that move arrive as they were, and what they came from stays as it was."""

import io
import shutil
import sqlite3
from argparse import Namespace
from contextlib import closing
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from clock import FakeClock
from databases import PostgresStudios, migrated_file, sqlite_database
from lived_in_studio import LivedIn, furnished, secrets, shown
from lora_library import ANN, BEN
from moving_house import Copy, NewHouse
from pgbouncer import NO_PGBOUNCER, PgBouncer, find_pgbouncer

from sidecar.commands.copy import run
from sidecar.database import Database
from sidecar.database.sqlite import only_process
from sidecar.database.tables import metadata, runs
from sidecar.errors import ConflictError, InvalidError
from sidecar.moving.parts import PARTS, STAYS
from sidecar.moving.source import BATCH_BYTES, opened_source
from sidecar.principal import LOCAL, Principal
from sidecar.runs.models import Status
from sidecar.runs.store import RunStore
from sidecar.runs.views import RunQuery
from sidecar.settings import Settings
from sidecar.workflows.models import WorkflowOrder, WorkflowQuery
from sidecar.workflows.service import WorkflowService


async def lines(database: Database, house: LivedIn | NewHouse) -> list[str]:
    return [line async for line in shown(database, house.folder)]


async def save_workflow(database: Database, owner: Principal = LOCAL, name: str = "extra") -> UUID:
    order = WorkflowOrder(name=name, workflow_json={"1": {"class_type": "A", "inputs": {}}})
    workflow, _ = await WorkflowService(database, FakeClock(), uuid4).add(owner, order)
    return workflow.id


def change(old: LivedIn, sql: str, *values: str) -> None:
    connection = sqlite3.connect(old.file)
    with connection:
        connection.execute(sql, values)
    connection.close()


def test_every_table_moves_after_those_that_it_refers_to() -> None:
    order = [part.table for part in PARTS]
    assert set(order) == set(metadata.tables.values()) - set(STAYS)
    for table in order:
        for key in table.foreign_keys:
            assert order.index(key.column.table) < order.index(table)


async def test_a_studio_arrives_as_its_rooms_show_it(
    old: LivedIn, new: NewHouse, copy: Copy
) -> None:
    async with sqlite_database(old.file) as database:
        before, accounts = await lines(database, old), await secrets(database)
    files = old.fingerprints()

    code, printed = await copy(old, new)

    assert (code, "Everything has arrived" in printed) == (0, True)
    assert old.fingerprints() == files
    async with new.database() as database:
        after = await lines(database, new)
        assert await secrets(database) == accounts
    assert len(after) == len(before)
    # those that were under way are the next test's affair
    assert len(set(before) - set(after)) == 2


async def test_runs_that_were_under_way_are_queued_there_for_their_next_attempt(
    old: LivedIn, new: NewHouse, copy: Copy
) -> None:
    _, printed = await copy(old, new)

    assert "1 are queued there as here; 2 were under way" in printed
    waiting = []
    async with new.database() as database:
        for owner in (LOCAL, ANN, BEN):
            async with database.transaction(owner, read_only=True) as tx:
                for run in (await RunStore(tx).page(RunQuery(limit=200))).items:
                    if not run.is_final:
                        waiting.append(await RunStore(tx).get(run.id))
    assert [run.status for run in waiting] == [Status.QUEUED] * 3
    assert [(run.worker_id, run.history, run.progress) for run in waiting] == [(None,) * 3] * 3
    assert sorted(run.attempts for run in waiting) == [0, 1, 1]


async def test_uploads_under_way_stay_with_the_sidecar_that_has_their_bytes(
    old: LivedIn, on_sqlite: NewHouse, copy: Copy
) -> None:
    assert (await copy(old, on_sqlite))[0] == 0
    for house, count in ((old.file, 3), (Path(on_sqlite.folder) / "atelier.db", 0)):
        with closing(sqlite3.connect(house)) as connection:
            (found,) = connection.execute("select count(*) from uploads").fetchone()
        assert found == count


async def test_copying_again_finds_everything_there(
    old: LivedIn, new: NewHouse, copy: Copy
) -> None:
    await copy(old, new)
    async with new.database() as database:
        before = await lines(database, new)

    code, printed = await copy(old, new)

    assert code == 0
    assert "holds rows of this studio" in printed
    assert "files: 0 copied" in printed
    async with new.database() as database:
        assert await lines(database, new) == before


async def test_an_empty_studio_arrives(new: NewHouse, copy: Copy, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    migrated_file(empty)
    assert (await copy(LivedIn(empty), new))[0] == 0


async def test_what_a_killed_sidecar_left_in_its_journal_arrives_too(
    old: LivedIn, new: NewHouse, copy: Copy
) -> None:
    killed = LivedIn(old.folder.with_name("killed"))
    async with sqlite_database(old.file) as database:
        await save_workflow(database)
        shutil.copytree(old.folder, killed.folder)  # as it is on the disk at this moment
    assert (killed.folder / "atelier.db-wal").stat().st_size > 0
    files = killed.fingerprints()

    assert (await copy(killed, new))[0] == 0

    assert killed.fingerprints() == files
    async with new.database() as database:
        page = await WorkflowService(database, FakeClock(), uuid4).page(LOCAL, WorkflowQuery())
    assert "extra" in [workflow.name for workflow in page.items]


async def test_a_batch_holds_few_long_rows(tmp_path: Path) -> None:
    old = await furnished(tmp_path / "old", runs=30, padding=150_000)
    part = next(each for each in PARTS if each.table is runs)
    seen, after = 0, None
    async with opened_source(old.file) as source:
        while batch := await source.batch(part, LOCAL, after):
            assert sum(len(row.canonical) for row in batch[:-1]) < BATCH_BYTES
            seen, after = seen + len(batch), batch[-1].key
    assert seen == 10


async def test_long_rows_arrive(tmp_path: Path, on_postgres: NewHouse, copy: Copy) -> None:
    old = await furnished(tmp_path / "old", runs=12, padding=400_000)
    assert (await copy(old, on_postgres))[0] == 0


async def test_a_studio_that_is_served_is_not_copied(
    old: LivedIn, new: NewHouse, copy: Copy
) -> None:
    with only_process(old.file), pytest.raises(ConflictError) as refused:
        await copy(old, new)
    assert refused.value.code == "data_in_use"


async def test_a_database_that_was_used_is_refused_before_anything_is_written(
    old: LivedIn, new: NewHouse, copy: Copy
) -> None:
    async with new.database() as database:
        workflow_id = await save_workflow(database, BEN)
    with pytest.raises(ConflictError) as refused:
        await copy(old, new)

    assert refused.value.code == "destination_in_use"
    assert refused.value.details == {"table": "comfyui_workflows", "key": str(workflow_id)}
    async with new.database() as database:
        assert await secrets(database) == []
    assert not new.blobs.exists()


async def test_an_account_of_the_same_id_that_is_another_is_not_overwritten(
    old: LivedIn, new: NewHouse, copy: Copy
) -> None:
    await copy(old, new)
    change(old, "update accounts set email = 'somebody@example.org' where role = 'admin'")
    with pytest.raises(ConflictError) as refused:
        await copy(old, new)

    assert refused.value.code == "destination_differs"
    assert refused.value.details == {"table": "accounts", "key": str(LOCAL.id)}
    async with new.database() as database:
        assert "n0@example.org" in [row[1] for row in await secrets(database)]


async def test_a_row_that_somebody_else_has_there_is_refused(
    old: LivedIn, new: NewHouse, copy: Copy
) -> None:
    async with sqlite_database(old.file) as database:
        workflow_id = await save_workflow(database, ANN)
    async with new.database() as database:
        order = WorkflowOrder(name="x", workflow_json={"1": {"class_type": "A", "inputs": {}}})
        await WorkflowService(database, FakeClock(), lambda: workflow_id).add(BEN, order)

    with pytest.raises(ConflictError) as refused:
        await copy(old, new)
    assert refused.value.code == "destination_in_use"


class ServedMeanwhile(io.StringIO):
    """Printed to, it has somebody else start the runs as soon as they have arrived."""

    def __init__(self, postgres: PostgresStudios, name: str) -> None:
        super().__init__()
        self._postgres = postgres
        self._name = name

    def write(self, line: str) -> int:
        if line.startswith("comfyui_run_events"):
            sql = "update atelier.comfyui_workflow_runs set status = 'preparing', attempts = 3"
            self._postgres.server.psql(f"{sql} where status = 'queued'", self._name)
        return super().write(line)


async def test_a_destination_that_is_served_meanwhile_is_noticed(
    old: LivedIn, on_postgres: NewHouse, postgres: PostgresStudios, postgres_name: str, copy: Copy
) -> None:
    code, printed = await copy(old, on_postgres, out=ServedMeanwhile(postgres, postgres_name))

    assert code == 1
    assert "comfyui_workflow_runs differs, first at " in printed
    assert "comfyui_workflows differs" not in printed


@pytest.mark.parametrize(("revision", "advice"), [("0001", "sidecar migrate"), ("9999", "newer")])
async def test_a_studio_of_another_version_is_refused(
    old: LivedIn, on_postgres: NewHouse, copy: Copy, revision: str, advice: str
) -> None:
    change(old, "update alembic_version set version_num = ?", revision)
    with pytest.raises(InvalidError, match=advice) as refused:
        await copy(old, on_postgres)
    assert refused.value.code == "source_not_migrated"


async def test_a_file_that_is_no_database_is_refused(
    tmp_path: Path, on_postgres: NewHouse, copy: Copy
) -> None:
    (tmp_path / "atelier.db").write_bytes(b"not SQLite" * 1000)
    with pytest.raises(InvalidError) as refused:
        await copy(LivedIn(tmp_path), on_postgres)
    assert refused.value.code == "source_damaged"


async def test_a_folder_without_a_studio_is_refused_and_stays_empty(
    tmp_path: Path, on_postgres: NewHouse, copy: Copy
) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InvalidError) as refused:
        await copy(LivedIn(tmp_path / "nothing"), on_postgres)
    assert refused.value.code == "no_studio"
    assert list((tmp_path / "nothing").iterdir()) == []


async def test_a_database_that_is_not_migrated_is_refused(
    old: LivedIn, postgres: PostgresStudios, copy: Copy, tmp_path: Path
) -> None:
    name = postgres.empty()
    try:
        with pytest.raises(InvalidError, match="sidecar migrate") as refused:
            await copy(old, NewHouse(postgres.url(name), tmp_path / "new"))
        assert refused.value.code == "database_not_migrated"
    finally:
        postgres.server.drop_database(name)


async def test_a_login_that_row_security_does_not_bind_is_refused(
    old: LivedIn, postgres: PostgresStudios, postgres_name: str, copy: Copy, tmp_path: Path
) -> None:
    with pytest.raises(InvalidError, match="The destination: ") as refused:
        await copy(old, NewHouse(postgres.admin_url(postgres_name), tmp_path / "new"))
    assert refused.value.code == "row_security_does_not_bind"


async def test_a_file_that_is_not_there_is_not_made(
    old: LivedIn, copy: Copy, tmp_path: Path
) -> None:
    with pytest.raises(InvalidError) as refused:
        await copy(old, NewHouse(f"sqlite:///{tmp_path / 'no.db'}", tmp_path / "new"))
    assert refused.value.code == "database_not_migrated"
    assert not (tmp_path / "no.db").exists()


async def test_a_studio_is_not_copied_into_itself(old: LivedIn, copy: Copy, tmp_path: Path) -> None:
    with pytest.raises(InvalidError) as refused:
        await copy(old, NewHouse(f"sqlite:///{old.file}", tmp_path / "new"))
    assert refused.value.code == "same_database"


@pytest.mark.parametrize(
    "url", ["mysql://a:hush@b/c", "hush", "", "postgresql://u:hush@[::1/x", "sqlite://hush"]
)
async def test_a_url_that_is_none_is_refused_and_not_repeated(
    old: LivedIn, copy: Copy, tmp_path: Path, url: str
) -> None:
    with pytest.raises(InvalidError) as refused:
        await copy(old, NewHouse(url, tmp_path / "new"))
    assert refused.value.code == "invalid_destination"
    assert "hush" not in refused.value.message


async def test_a_studio_on_postgres_is_not_copied(on_postgres: NewHouse) -> None:
    settings = Settings.model_validate({"DATABASE_URL": on_postgres.url})
    with pytest.raises(InvalidError, match="DATABASE_URL") as refused:
        await run(Namespace(to=on_postgres.url, to_blobs=None), settings, io.StringIO())
    assert refused.value.code == "not_on_sqlite"


async def test_a_row_that_postgres_cannot_hold_is_named_and_the_rest_arrives(
    old: LivedIn, on_postgres: NewHouse, copy: Copy
) -> None:
    async with sqlite_database(old.file) as database:
        workflow_id = await save_workflow(database)
    change(old, "update comfyui_workflows set description = 'a' || char(0) where name = 'extra'")
    with pytest.raises(InvalidError) as refused:
        await copy(old, on_postgres)

    assert refused.value.code == "row_refused"
    assert refused.value.details == {"table": "comfyui_workflows", "key": str(workflow_id)}
    change(old, "update comfyui_workflows set description = 'a' where name = 'extra'")
    assert (await copy(old, on_postgres))[0] == 0


async def test_a_run_of_a_workflow_that_never_was_is_named(
    old: LivedIn, on_postgres: NewHouse, copy: Copy
) -> None:
    change(old, "update comfyui_workflow_runs set workflow_id = id where workflow_id is not null")
    with pytest.raises(InvalidError, match="row-level security") as refused:
        await copy(old, on_postgres)
    assert refused.value.code == "row_refused"


@pytest.mark.skipif(find_pgbouncer() is None, reason=NO_PGBOUNCER)
async def test_a_studio_arrives_through_a_pooler_in_transaction_mode(
    old: LivedIn, postgres: PostgresStudios, postgres_name: str, copy: Copy, tmp_path: Path
) -> None:
    pooler = PgBouncer(postgres.server, "transaction")
    try:
        pooler.start()
        code, _ = await copy(old, NewHouse(pooler.url(postgres_name), tmp_path / "new"))
    finally:
        pooler.stop()
    assert code == 0

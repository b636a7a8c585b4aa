"""A studio in which people have worked for a while, and all that its rooms show of it."""

import hashlib
import json
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from clock import FakeClock
from databases import migrated_file, sqlite_database
from lora_library import ANN, BEN, Library, opened_library
from safetensors_files import lora_bytes
from sample_graphs import txt2img

from sidecar.database import Database, Transaction
from sidecar.database.pages import PageQuery
from sidecar.database.sqlite import only_process
from sidecar.database.tables import accounts, api_tokens, sessions, uploads
from sidecar.durable import make_folder
from sidecar.loras.models import Access
from sidecar.loras.views import LoraQuery
from sidecar.principal import LOCAL, SYSTEM, Principal
from sidecar.runs.models import Output, OutputType, Run, RunError, Source, Status
from sidecar.runs.store import RunStore
from sidecar.runs.views import RunQuery
from sidecar.settings import Settings
from sidecar.workflows.models import WorkflowOrder, WorkflowQuery, WorkflowReplacement
from sidecar.workflows.service import WorkflowService

OWNERS = (LOCAL, ANN, BEN)
_RUNS_AT_ONCE = 200
_UNFINISHED = (Status.QUEUED, Status.PREPARING, Status.RUNNING)


@dataclass(frozen=True)
class LivedIn:
    """A studio in a folder, on SQLite, that nobody serves."""

    folder: Path

    @property
    def file(self) -> Path:
        """Its database."""
        return self.folder / "atelier.db"

    @property
    def blobs(self) -> Path:
        """Its files."""
        return self.folder / "blobs"

    @property
    def settings(self) -> Settings:
        """What its sidecar is told."""
        return Settings.model_validate({"ATELIER_DATA_DIR": self.folder})

    def fingerprints(self) -> dict[str, str]:
        """Every file with a hash of its bytes."""
        return {
            str(path.relative_to(self.folder)): _sha256(path)
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }


async def furnished(
    folder: Path, *, workflows: int = 6, runs: int = 40, loras: int = 3, padding: int = 0
) -> LivedIn:
    """Make one: three accounts share in turn so many workflows (of two or three versions), runs
    (with events and outputs; the last ones unfinished) and LoRAs (of one or two versions).

    ``padding`` is how many characters longer each prompt is.
    """
    make_folder(folder)
    migrated_file(folder)
    studio, clock = LivedIn(folder), FakeClock()
    with only_process(studio.file):  # leaves its lock file, as a sidecar does
        await _furnish(studio, clock, workflows, runs, loras, padding)
    return studio


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


async def _furnish(
    studio: LivedIn, clock: FakeClock, workflows: int, runs: int, loras: int, padding: int
) -> None:
    async with (
        sqlite_database(studio.file) as database,
        opened_library(database, clock, studio.folder) as library,
    ):
        await _add_accounts(database, clock)
        saved = await _add_workflows(WorkflowService(database, clock, uuid4), clock, workflows)
        for number in range(loras):
            owner, name = OWNERS[number % len(OWNERS)], f"Tusche \u00e4 {number}.safetensors"
            for version in range(1 + number % 2):
                file = lora_bytes(10 * number + version)
                detail, _ = await library.upload(file, name, owner, tags="[]")
            other = OWNERS[(number + 1) % len(OWNERS)]
            await library.give(detail.lora.id, str(other.id), who=owner, everyone=number == 0)
            await _begin_upload(database, clock, owner)
        for start in range(0, runs, _RUNS_AT_ONCE):
            for owner in OWNERS:
                async with database.transaction(owner) as tx:
                    for number in range(start, min(start + _RUNS_AT_ONCE, runs)):
                        if OWNERS[number % len(OWNERS)] == owner:
                            clock.tick(0.001)
                            unfinished = number >= runs - len(_UNFINISHED)
                            await _add_run(studio, tx, clock, number, saved, unfinished, padding)


async def shown(database: Database, folder: Path) -> AsyncIterator[str]:
    """All that workflows, LoRAs and runs show of it to its owners, a line each; files as hashes.

    The files are those in ``folder``/blobs.
    """
    async with opened_library(database, FakeClock(), folder) as library:
        for owner in OWNERS:
            async for line in _shown_workflows(database, owner):
                yield f"{owner.id} {line}"
            async for line in _shown_loras(library, owner):
                yield f"{owner.id} {line}"
            async for line in _shown_runs(library, owner):
                yield f"{owner.id} {line}"


async def secrets(database: Database) -> list[tuple[Any, ...]]:
    """Accounts, sessions and API tokens, every column."""
    rows: list[tuple[Any, ...]] = []
    async with database.transaction(SYSTEM, read_only=True) as tx:
        for table in (accounts, sessions, api_tokens):
            query = sa.select(table).order_by(table.c.id)
            rows.extend(tuple(row) for row in await tx.execute(query))
    return rows


async def _add_accounts(database: Database, clock: FakeClock) -> None:
    now = clock.now() + timedelta(microseconds=123_457)
    async with database.transaction(SYSTEM) as tx:
        for number, owner in enumerate(OWNERS):
            account = {
                "id": owner.id,
                "email": f"n{number}@example.org",
                "role": "admin" if number == 0 else "member",
                "password_hash": f"$argon2id$v=19$m=65536,t=3,p=4$salt${number}",
                "supabase_id": uuid4() if number else None,
                "max_bytes": 1 << 40,
                "created_at": now,
            }
            await tx.execute(accounts.insert().values(account))
            times = {"created_at": now, "seen_at": now, "expires_at": now}
            session = {"id": uuid4(), "owner_id": owner.id, "token_sha256": f"{number:064x}"}
            await tx.execute(sessions.insert().values({**session, **times}))
            token = {**session, "id": uuid4(), "name": "ci", "scopes": ["runs:write"]}
            await tx.execute(api_tokens.insert().values({**token, "created_at": now}))


async def _begin_upload(database: Database, clock: FakeClock, owner: Principal) -> None:
    """One whose sidecar has some of its bytes."""
    now = clock.now()
    row = {"id": uuid4(), "owner_id": owner.id, "worker_id": "local", "state": "receiving"}
    row |= {"length": 4096, "metadata": {}, "created_at": now, "expires_at": now}
    async with database.transaction(owner) as tx:
        await tx.execute(uploads.insert().values(row))


async def _add_workflows(
    service: WorkflowService, clock: FakeClock, count: int
) -> Sequence[tuple[Principal, UUID]]:
    saved = []
    for number in range(count):
        owner = OWNERS[number % len(OWNERS)]
        clock.tick()
        order = {"name": f"Portr\u00e4t {number}", "tags": ["a", "\u65e5"], "description": "x" * 50}
        body = {"workflow_json": txt2img(), "graph": {"z": 1, "a": {"y": 1e22, "b": 1.0}}}
        made, _ = await service.add(owner, WorkflowOrder.model_validate({**order, **body}))
        for version in range(1 + number % 2):
            body["workflow_json"]["3"]["inputs"]["seed"] = version + 7
            change = WorkflowReplacement.model_validate({**order, **body})
            await service.replace(owner, made.id, change)
        if number % 5 == 4:
            await service.delete(owner, made.id)
        saved.append((owner, made.id))
    return saved


async def _add_run(
    studio: LivedIn,
    tx: Transaction,
    clock: FakeClock,
    number: int,
    saved: Sequence[tuple[Principal, UUID]],
    unfinished: bool,
    padding: int,
) -> None:
    owner, now = tx.principal, clock.now()
    mine = [each for who, each in saved if who == owner]
    status = _UNFINISHED[number % 3] if unfinished else Status.SUCCEEDED
    if not unfinished and number % 7 == 0:
        status = Status.FAILED
    run = Run(
        id=uuid4(),
        owner_id=owner.id,
        source=Source.API,
        status=status,
        prompt={**txt2img(), "padding": "\u00f6" * padding},
        loras=(),
        created_at=now,
        workflow_id=mine[number % len(mine)] if mine and number % 4 else None,
        workflow_version=1 if mine and number % 4 else None,
        input_params={"zeta": 1.0, "alpha": number},
        worker_id=None if status is Status.QUEUED else "local",
        attempts=0 if status is Status.QUEUED else 1,
        history={"outputs": {}} if status is Status.RUNNING else None,
        error=RunError("node_failed", "no", "3") if status is Status.FAILED else None,
        idempotency_key=f"key-{number}",
        request_sha256=f"{number:064x}",
        gpu_seconds=None if unfinished else number / 7,
        started_at=None if status is Status.QUEUED else now,
        finished_at=None if unfinished else now,
    )
    if status is Status.SUCCEEDED:
        run = Run(**{**run.__dict__, "outputs": (_output(studio, run, number),)})
    store = RunStore(tx)
    await store.add(run)
    for kind in ("status", "progress", "output"):
        await store.add_event(run.id, kind, {"value": number / 4, "max": 20.0}, now)


def _output(studio: LivedIn, run: Run, number: int) -> Output:
    data = random.Random(number).randbytes(300)  # noqa: S311 - a picture, not a secret
    key = f"user-{run.owner_id}/runs/{run.id}/1-0.png"
    file = studio.blobs / key
    file.parent.mkdir(parents=True)
    file.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    name = f"ComfyUI_{number}.png"
    return Output(0, "9", name, OutputType.IMAGE, "image/png", 300, sha256, key, "output")


async def _shown_workflows(database: Database, owner: Principal) -> AsyncIterator[str]:
    service = WorkflowService(database, FakeClock(), uuid4)
    cursor = None
    while True:
        page = await service.page(owner, WorkflowQuery(limit=200, cursor=cursor))
        for workflow in page.items:
            versions = await service.versions(owner, workflow.id, PageQuery(limit=200))
            for version in versions.items:
                _, stored = await service.get(owner, workflow.id, version.version)
                exact = json.dumps(stored.body.workflow_json)  # in the order of its keys
                yield _line(asdict(workflow), asdict(stored), exact)
        if (cursor := page.next_cursor) is None:
            return


async def _shown_loras(library: Library, owner: Principal) -> AsyncIterator[str]:
    for lora in (await library.service.page(owner, LoraQuery(limit=200, scope="all"))).items:
        if lora.access is Access.OWNER:
            shared = await library.sharing.shared(owner, lora.id)
            yield _line(shared.everyone, shared.can_download, sorted(shared.people.values()))
        for version in (await library.service.get(owner, lora.id)).versions:
            async with library.blobs.open(version.object_key) as chunks:
                data = b"".join([chunk async for chunk in chunks])
            yield _line(asdict(lora), asdict(version), hashlib.sha256(data).hexdigest())


async def _shown_runs(library: Library, owner: Principal) -> AsyncIterator[str]:
    cursor = None
    while True:
        async with library.database.transaction(owner, read_only=True) as tx:
            page = await RunStore(tx).page(RunQuery(limit=200, cursor=cursor))
            for listed in page.items:
                run = await RunStore(tx).get(listed.id)
                events = await RunStore(tx).events(run.id, 0)
                files = []
                for output in run.outputs:
                    async with library.blobs.open(output.key) as chunks:
                        data = b"".join([chunk async for chunk in chunks])
                    files.append(hashlib.sha256(data).hexdigest())
                yield _line(asdict(run), [asdict(event) for event in events], files)
        if (cursor := page.next_cursor) is None:
            return


def _line(*values: Any) -> str:
    return json.dumps(values, default=str, sort_keys=True)

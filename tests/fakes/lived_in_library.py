"""A library, runs and ComfyUI's disk, to be driven step by step and looked at after each."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Coroutine
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from clock import FakeClock
from databases import sqlite_database
from lora_library import ANN, BEN, form
from lora_pins import AlteredBlobs
from safetensors_files import lora_bytes
from some_runs import some_run

from sidecar.accounts.models import Quotas
from sidecar.accounts.people import People
from sidecar.database import Database
from sidecar.errors import AtelierError, UnavailableError, UpstreamError
from sidecar.loras.disk import LoraSync
from sidecar.loras.disk.records import LibraryRecords
from sidecar.loras.disk.tidying import Tidier
from sidecar.loras.intake import LoraIntake
from sidecar.loras.models import LoraPin, VersionState
from sidecar.loras.objects import LoraObjects
from sidecar.loras.removal import UnneededFiles
from sidecar.loras.service import LoraService
from sidecar.loras.store import LoraStore
from sidecar.principal import Principal
from sidecar.runs.models import UNFINISHED, Run, Status
from sidecar.runs.objects import RunObjects
from sidecar.runs.store import RunStore
from sidecar.sweeping.service import Sweeper
from sidecar.uploads.expiry import UploadExpiry
from sidecar.uploads.files import UploadFiles

T = TypeVar("T")

SIZE = 20_000
LIMIT = 5 * SIZE
WORKER = "local"
PEOPLE = (ANN, BEN)


class LivedInLibrary:
    """Every step ends with the folder looked at by the tidier, as the watcher has it done."""

    def __init__(self, folder: Path, database_file: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._opened = sqlite_database(database_file)
        self.database: Database = self.do(self._opened.__aenter__())
        self.folder = folder / "loras"
        self.folder.mkdir()
        self.blobs = AlteredBlobs(folder / "blobs")
        self._clock = FakeClock()
        self._numbers = count(100)
        self._intake = LoraIntake(
            self.database,
            self.blobs,
            self._clock,
            self._new_id,
            max_bytes=1 << 20,
            quotas=self._quotas,
            is_welcome=self._is_welcome,
        )
        self._uploads = UploadFiles(folder / "uploads")
        self.runs: dict[UUID, Run] = {}
        self.prepared: set[UUID] = set()
        self.lost: set[str] = set()
        self.sync = self._new_sync()
        self.do(self.sync.clean())

    def _new_id(self) -> UUID:
        """The same ones each time: Hypothesis repeats what it did."""
        return UUID(int=next(self._numbers))

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it to its end."""
        return self._loop.run_until_complete(work)

    def close(self) -> None:
        """Let go of all of it."""
        self.do(self._opened.__aexit__(None, None, None))
        self.do(self._loop.shutdown_default_executor())
        self._loop.close()

    def upload(self, who: Principal, name: str, seed: int) -> None:
        """Upload one of a few files, perhaps again."""
        data = lora_bytes(seed, size=SIZE)
        taken = self.do(self._intake.add(who, form(data, f"{name}.safetensors", {})))
        version = self.do(self._version(who, taken.lora_id, taken.version))
        assert version.state is VersionState.STORED
        self.lost.discard(version.object_key)

    def delete(self, who: Principal, name: str) -> None:
        """Delete a LoRA, unless a run needs it."""
        self._unless_refused(self._deleted(who, name, None))

    def delete_version(self, who: Principal, name: str, version: int) -> None:
        """Delete an old version, unless it is the head or a run needs it."""
        self._unless_refused(self._deleted(who, name, version))

    def restore(self, who: Principal, name: str, version: int) -> None:
        """Make an old version the head."""

        async def restored() -> None:
            lora = await self._named(who, name)
            await self._service().restore(who, lora, version)

        self._unless_refused(restored())

    def accept(self, who: Principal, names: set[str]) -> None:
        """Queue a run that needs these, where they can be had."""

        async def pinned() -> list[LoraPin]:
            async with self.database.transaction(who, read_only=True) as tx:
                heads = await LoraStore(tx).by_stem(names)
            return [
                lora.pin(who.folder)
                for lora in heads.values()
                if lora.head.state is VersionState.STORED
            ]

        if pins := self.do(pinned()):
            run = some_run(self._clock.now(), who.id, id=self._new_id(), loras=tuple(pins))
            self.do(self._add_run(run))
            self.runs[run.id] = run

    def prepare(self, run_id: UUID) -> None:
        """Claim a run and have its files put there, as far as there is room."""
        run = self.runs[run_id]
        self.do(self._move(run, Status.PREPARING, worker_id=WORKER))
        try:
            self.do(self.sync.admit(run_id, run.loras))
            for pin in run.loras:
                self.do(self.sync.ensure(pin))
        except UnavailableError:
            return  # it waits
        except UpstreamError:
            if not {pin.object_key for pin in run.loras} & self.lost:
                raise
            self.finish(run_id)
            return
        self.prepared.add(run_id)

    def finish(self, run_id: UUID) -> None:
        """End a run, however."""
        self.do(self._move(self.runs.pop(run_id), Status.SUCCEEDED))
        self.prepared.discard(run_id)

    def crash(self, seed: int) -> None:
        """End the process in the middle of fetching something, and start again."""
        held = [pin for run in self.runs.values() for pin in run.loras]
        if held:
            self.do(self._break_off(random.Random(seed).choice(held)))  # noqa: S311 - no secret
        folder = self.folder / ANN.folder
        folder.mkdir(exist_ok=True)
        (folder / "half.safetensors.0.part").write_bytes(b"half")
        self.sync = self._new_sync()
        self.do(self.sync.clean())

    def tamper(self, seed: int, how: str) -> None:
        """Change, truncate, delete or drop a file behind everybody's back."""
        files = sorted(self.folder.glob("user-*/*.safetensors"))
        chosen = random.Random(seed)  # noqa: S311 - no secret
        if how == "drop" or not files:
            path = self.folder / PEOPLE[seed % 2].folder / f"dropped {seed}.safetensors"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"dropped")
        else:
            path = chosen.choice(files)
            data = path.read_bytes()
            path.unlink()
            if how == "truncate":
                path.write_bytes(data[: len(data) // 2])
            elif how == "flip":
                path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        self.do(Tidier(self.sync).look([path]))

    def lose(self, seed: int) -> None:
        """Let the store lose an object."""
        keys = sorted(self.do(self._keys()))
        if keys:
            key = random.Random(seed).choice(keys)  # noqa: S311 - no secret
            self.do(self.blobs.delete(key))
            self.lost.add(key)

    def sweep(self) -> None:
        """Sweep: what is lost is marked."""
        expiry = UploadExpiry(self.database, self._uploads, worker_id=WORKER, seconds=60)
        parts = LoraObjects(self.database), RunObjects(self.database), expiry, self._clock
        self.do(Sweeper(self.blobs, self.sync, *parts).sweep())

    def scan(self) -> None:
        """Look at the whole folder."""
        self.do(Tidier(self.sync).scan())

    def wrong_files(self) -> list[Path]:
        """Listed files whose bytes are not what their names say."""
        return [
            path
            for path in self.folder.rglob("*.safetensors")
            if hashlib.sha256(path.read_bytes()).hexdigest()[:8] != path.name.split(".")[-2]
        ]

    def missing_files(self) -> list[LoraPin]:
        """Files that prepared runs need and that are not there."""
        return [
            pin
            for run_id in self.prepared
            for pin in self.runs[run_id].loras
            if not (self.folder / pin.path).exists() and pin.object_key not in self.lost
        ]

    def bytes_on_disk(self) -> int:
        """Of files and parts; linked ones once, and what somebody dropped aside."""
        found = {
            path.stat().st_ino: path.stat().st_size
            for path in self.folder.rglob("*")
            if path.is_file() and not path.name.endswith(".unknown")
        }
        return sum(found.values())

    def rows_without_objects(self) -> set[str]:
        """Keys of versions that say they are stored, and are not."""
        there = self.do(self._keys())
        named = {key for who in PEOPLE for key in self.do(self._stored_keys(who))}
        return named - there - self.lost

    def _new_sync(self) -> LoraSync:
        records = LibraryRecords(self.database)
        return LoraSync(self.blobs, self.folder, records, worker_id=WORKER, cache_bytes=LIMIT)

    def _service(self) -> LoraService:
        people, files = People(self.database), UnneededFiles(self.database, self.sync)
        comfyui: Any = None  # it is asked for names alone
        return LoraService(
            self.database, self.blobs, self.sync, comfyui, files, people, self._clock
        )

    def _unless_refused(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            self.do(work)
        except (AtelierError, LookupError):
            return

    async def _deleted(self, who: Principal, name: str, version: int | None) -> None:
        lora = await self._named(who, name)
        if version is None:
            await self._service().delete(who, lora)
        else:
            await self._service().delete_version(who, lora, version)

    async def _named(self, who: Principal, name: str) -> UUID:
        async with self.database.transaction(who, read_only=True) as tx:
            found = await LoraStore(tx).with_stem(name)
        if found is None:
            raise LookupError(name)
        return found

    async def _version(self, who: Principal, lora_id: UUID, version: int) -> Any:
        async with self.database.transaction(who, read_only=True) as tx:
            return await LoraStore(tx).version(lora_id, version)

    async def _stored_keys(self, who: Principal) -> set[str]:
        async with self.database.transaction(who, read_only=True) as tx:
            store = LoraStore(tx)
            names = await store.names()
            loras = await store.by_stem(names)
            versions = [each for lora in loras.values() for each in await store.versions(lora.id)]
        return {each.object_key for each in versions if each.state is VersionState.STORED}

    async def _keys(self) -> set[str]:
        return {entry.key async for entry in self.blobs.entries("")}

    async def _add_run(self, run: Run) -> None:
        async with self.database.transaction(Principal(run.owner_id)) as tx:
            await RunStore(tx).add(run)

    async def _move(self, run: Run, status: Status, **values: Any) -> None:
        async with self.database.transaction(Principal(run.owner_id)) as tx:
            await RunStore(tx).change(run.id, UNFINISHED, status=status, **values)

    async def _break_off(self, pin: LoraPin) -> None:
        begun = asyncio.Event()

        async def half(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            async for chunk in chunks:
                begun.set()
                yield chunk[: len(chunk) // 2]
                await asyncio.Event().wait()

        self.blobs.alter = half
        fetching = asyncio.create_task(self.sync.ensure(pin))
        reached = asyncio.create_task(begun.wait())
        await asyncio.wait({fetching, reached}, return_when=asyncio.FIRST_COMPLETED)
        for task in (fetching, reached):
            task.cancel()
        await asyncio.gather(fetching, reached, return_exceptions=True)
        self.blobs.alter = None

    async def _quotas(self, _who: Principal) -> Quotas:
        return Quotas(100, None)

    async def _is_welcome(self, _who: Principal) -> bool:
        return True

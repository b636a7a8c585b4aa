"""The studio that is left: its SQLite file, opened so that not a byte of it changes."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import sqlalchemy as sa

from ..database import tables
from ..database.migrations import require_head
from ..database.sqlite import only_process
from ..durable import disk_errors, in_thread
from ..errors import InvalidError, StorageFullError, UnavailableError
from ..principal import Principal
from ..runs.models import UNFINISHED, Status
from .parts import PARTS, Key, Part, Row

BATCH_ROWS = 400
"""Twice as many parameters are fewer than the 999 that an old SQLite allows."""
BATCH_BYTES = 1 << 20
"""Rows of a batch are read up to so many bytes, and one row more."""
_UNDONE = ("-wal", "-journal")
"""What a kill leaves beside the file: without it the file is not what was committed."""


@dataclass(frozen=True)
class NamedBlob:
    """What a row says of a blob; None: nothing."""

    size: int | None
    sha256: str | None


@asynccontextmanager
async def opened_source(file: Path) -> AsyncIterator["Source"]:
    """The studio in this file, held as a sidecar would hold it.

    InvalidError("no_studio"), ConflictError("data_in_use") while a sidecar has it, and
    InvalidError("source_not_migrated") when an older version of Atelier, or a newer one, wrote it.
    """
    if not await in_thread(file.is_file):
        raise InvalidError("no_studio", f"There is no studio in {file.parent}: no {file.name}.")
    async with AsyncExitStack() as stack:
        stack.enter_context(_held(file))
        source = Source(await stack.enter_async_context(_read_only(file)))
        await in_thread(source.require_this_version)
        yield source


class Source:
    """Its rows, as they move. Every method may raise InvalidError("source_damaged")."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def require_this_version(self) -> None:
        """Blocking. See ``opened_source``."""
        with self._reading("its schema") as connection:
            try:
                require_head(connection)
            except InvalidError as error:
                raise InvalidError(
                    "source_not_migrated", f"The studio to copy: {error.message}"
                ) from None

    async def owners(self) -> set[UUID]:
        """Every account that has things."""
        return await in_thread(self._owners)

    async def count(self, part: Part) -> int:
        """How many rows a table has."""
        return await in_thread(self._count, part)

    async def batch(self, part: Part, who: Principal, after: Key | None) -> Sequence[Row]:
        """The next rows of this account in the order of their keys; none: there are no more."""
        return await in_thread(self._batch, part, who, after)

    async def unfinished(self) -> Mapping[Status, int]:
        """How many runs are in each unfinished state."""
        return await in_thread(self._unfinished)

    async def named_blobs(self) -> Mapping[str, NamedBlob]:
        """Every blob that a row names. Bytes of an upload that never ended are not missed."""
        return await in_thread(self._named_blobs)

    def _owners(self) -> set[UUID]:
        owners: set[UUID] = set()
        for part in PARTS:
            if part.is_owned:
                with self._reading(part.name) as connection:
                    query = sa.select(part.table.c.owner_id).distinct()
                    owners |= set(connection.execute(query).scalars())
        return owners

    def _count(self, part: Part) -> int:
        with self._reading(part.name) as connection:
            query = sa.select(sa.func.count()).select_from(part.table)
            return int(connection.execute(query).scalar_one())

    def _batch(self, part: Part, who: Principal, after: Key | None) -> Sequence[Row]:
        # keys first: SQLite finds an account's through an index, and would sort whole rows
        keys = sa.select(*part.key).order_by(*part.key).limit(BATCH_ROWS)
        if part.is_owned:
            keys = keys.where(part.table.c.owner_id == who.id)
        if after is not None:
            keys = keys.where(part.after(after))
        rows: list[Row] = []
        size = 0
        with self._reading(part.name) as connection:
            wanted = [tuple(key) for key in connection.execute(keys)]
            if not wanted:
                return rows
            query = sa.select(part.table).where(part.among(wanted)).order_by(*part.key)
            with connection.execute(query) as found:
                for each in found.mappings():
                    rows.append(part.moved(each))
                    size += len(rows[-1].canonical)
                    if size >= BATCH_BYTES:
                        break
        return rows

    def _unfinished(self) -> Mapping[Status, int]:
        states = [status.value for status in UNFINISHED]
        runs = tables.runs
        query = sa.select(runs.c.status, sa.func.count()).where(runs.c.status.in_(states))
        with self._reading(str(runs.name)) as connection:
            found = connection.execute(query.group_by(runs.c.status)).all()
        return {Status(status): count for status, count in found}

    def _named_blobs(self) -> Mapping[str, NamedBlob]:
        named: dict[str, NamedBlob] = {}
        loras, versions, runs = tables.loras, tables.lora_versions, tables.runs
        previews = sa.select(loras.c.preview_key).where(loras.c.preview_key.is_not(None))
        files = sa.select(versions.c.object_key, versions.c.bytes, versions.c.sha256)
        with self._reading(str(versions.name)) as connection:
            for key in connection.execute(previews).scalars():
                named[key] = NamedBlob(None, None)
            for found in connection.execute(files.where(versions.c.state == "stored")):
                named[found.object_key] = NamedBlob(found.bytes, found.sha256)
        with self._reading(str(runs.name)) as connection:
            for outputs in connection.execute(sa.select(runs.c.outputs)).scalars():
                for output in outputs:
                    named[output["key"]] = NamedBlob(output["bytes"], output["sha256"])
        return named

    @contextmanager
    def _reading(self, what: str) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except (sa.exc.DBAPIError, ValueError, KeyError, TypeError) as error:
            raise InvalidError(
                "source_damaged",
                f"The studio to copy cannot be read: {what} is damaged.",
                {"table": what},
            ) from error


@contextmanager
def _held(file: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(only_process(file))
        except OSError as error:
            raise UnavailableError(
                "source",
                f"{file.name}.lock cannot be made in {file.parent}: only who may write there can "
                "see to it that no sidecar uses the studio meanwhile.",
            ) from error
        yield


@asynccontextmanager
async def _read_only(file: Path) -> AsyncIterator[sa.Engine]:
    """An engine on the file itself where it is whole, else on a copy in the temporary folder.

    Even a read-only connection would otherwise write the index of a journal beside the file.
    """
    undone = [each for each in (Path(f"{file}{suffix}") for suffix in _UNDONE) if _has_bytes(each)]
    if not undone:
        with _engine(file, {"mode": "ro", "immutable": "1"}) as engine:
            yield engine
        return
    with tempfile.TemporaryDirectory(prefix="atelier-copy-") as name:
        folder = Path(name)
        try:
            with disk_errors("source", "The studio to copy cannot be read."):
                await in_thread(_copy, [file, *undone], folder)
        except StorageFullError:
            raise StorageFullError(
                "disk_full",
                f"A sidecar was killed over {file.name}, so that it is read from a copy, and "
                f"{folder.parent} has no room for that: let TMPDIR name a larger folder.",
            ) from None
        with _engine(folder / file.name, {"mode": "rw"}) as engine:
            yield engine


@contextmanager
def _engine(file: Path, options: Mapping[str, str]) -> Iterator[sa.Engine]:
    url = sa.URL.create(
        "sqlite", database=file.resolve().as_uri(), query={**options, "uri": "true"}
    )
    engine = sa.create_engine(url, poolclass=sa.NullPool, hide_parameters=True)
    try:
        yield engine
    finally:
        engine.dispose()


def _has_bytes(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


def _copy(files: Sequence[Path], folder: Path) -> None:
    for file in files:
        shutil.copyfile(file, folder / file.name)

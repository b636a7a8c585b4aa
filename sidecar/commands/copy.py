"""``copy``: take a studio from its SQLite file to another database, and its files along."""

import argparse
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pydantic import SecretStr

from ..blobs import BlobStore
from ..blobs.folder import FolderBlobs
from ..database import postgres
from ..database.sqlite import only_process
from ..errors import InvalidError, StorageFullError, TimedOutError, UnavailableError
from ..moving.blobs import FileMove, Files, look
from ..moving.destination import Destination
from ..moving.rows import Compared, RowMove
from ..moving.source import Source, opened_source
from ..outside import opened_blobs, opened_database, s3_address
from ..principal import SYSTEM
from ..runs.models import Status
from ..settings import Settings

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_AGAIN = "Run the same command again: it goes on where it stopped."
_SQLITE = "sqlite:///"
_S3 = "s3"
_HASH_SHOWN = 16


def add_to(commands: "Commands") -> None:
    """Add the command to the parser's."""
    parser = commands.add_parser(
        "copy", help="copy this studio into another database; it stays as it is"
    )
    parser.add_argument(
        "--to",
        metavar="DATABASE_URL",
        required=True,
        help="a migrated database that is empty, or holds an unfinished copy of this studio",
    )
    parser.add_argument(
        "--to-blobs",
        metavar="DIR",
        help="copy the files too: the folder `blobs` of the new ATELIER_DATA_DIR, or `s3` for the "
        "bucket that MINIO_... names; without it the files stay in use where they are",
    )


async def run(asked: argparse.Namespace, settings: Settings, out: TextIO) -> int:
    """Copy what the settings name; 0 when everything has arrived, else 1."""

    def say(line: str) -> None:
        encoding = out.encoding or "utf-8"  # names of files may be none of its texts
        out.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        out.flush()

    if settings.postgres_url is not None:
        raise InvalidError(
            "not_on_sqlite",
            "DATABASE_URL names a Postgres, and copy takes a studio out of SQLite: leave "
            "DATABASE_URL away, and give the Postgres with --to.",
        )
    folder = settings.data_dir / "blobs"
    if asked.to_blobs is not None and asked.to_blobs != _S3:
        _refuse_overlap(folder, Path(asked.to_blobs))
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(opened_source(settings.database_file))
        with _told("The destination"):
            destination = await stack.enter_async_context(_destination(asked.to, settings))
        target = _target(asked.to_blobs, settings)
        return await _copy(source, destination, folder, target, say)


async def _copy(
    source: Source,
    destination: Destination,
    blobs: Path,
    target: AbstractAsyncContextManager[BlobStore] | None,
    say: Callable[[str], None],
) -> int:
    """Check, then files, then rows: a row never arrives before what it names."""
    move = RowMove(source, destination, say)
    with _told("The destination"):
        is_begun = await move.check()
    say(f"The destination holds {'rows of this studio' if is_begun else 'no rows'}.")
    named = await source.named_blobs()
    if target is None:
        files = await look(FolderBlobs(blobs), named)
    else:
        with _told("--to-blobs"):
            async with target as opened:
                files = await FileMove(FolderBlobs(blobs), opened, named, say).copy()
    with _told("The destination"):
        await move.copy()
        compared = await move.compare()
    _tell_rows(compared, say)
    _tell_files(files, target is not None, say)
    _tell_runs(await source.unfinished(), say)
    if files.troubles or not all(table.is_same for table in compared):
        say("Not everything has arrived: see above.")
        return 1
    say("Everything has arrived. This studio is as it was.")
    return 0


def _target(
    to_blobs: str | None, settings: Settings
) -> AbstractAsyncContextManager[BlobStore] | None:
    """Where files go, to be opened when they do; None: nowhere."""
    if to_blobs is None:
        return None
    if to_blobs != _S3:
        return _opened_folder(Path(to_blobs))
    if s3_address(settings) is None:
        raise InvalidError("no_bucket", "--to-blobs s3 needs MINIO_ENDPOINT and its keys.")
    return opened_blobs(settings)


@asynccontextmanager
async def _opened_folder(folder: Path) -> AsyncIterator[BlobStore]:
    blobs = FolderBlobs(folder)
    await blobs.clean()
    yield blobs


@asynccontextmanager
async def _destination(url: str, settings: Settings) -> AsyncIterator[Destination]:
    """The database, for nobody else's copy meanwhile."""
    async with AsyncExitStack() as stack:
        if url.startswith(_SQLITE):
            file = _other_file(url, settings.database_file)
            stack.enter_context(only_process(file))
        else:
            _refuse_unreadable(url)
        elsewhere = settings.model_copy(update={"database_url": SecretStr(url)})
        try:
            database = await stack.enter_async_context(opened_database(elsewhere))
            destination = Destination(database)
            await destination.require_this_version()
        except InvalidError as error:
            message = f"The destination: {error.message}"
            raise InvalidError(error.code, message, error.details) from error
        await stack.enter_async_context(database.alone(SYSTEM, "copy"))
        yield destination


def _other_file(url: str, studio: Path) -> Path:
    file = Path(url.removeprefix(_SQLITE))
    if not file.is_file():
        raise InvalidError(
            "database_not_migrated",
            f"There is no {file.name} to copy into: run `python -m sidecar migrate` with this "
            "DATABASE_URL first.",
        )
    if file.samefile(studio):
        raise InvalidError("same_database", "--to is the studio that shall be copied.")
    return file


def _refuse_unreadable(url: str) -> None:
    try:
        if url.startswith(("postgresql://", "postgres://")):
            postgres.parse_url(url)
            return
    except InvalidError:
        pass
    raise InvalidError(
        "invalid_destination",
        "--to is a secret: expected postgresql://user:password@host/database, or sqlite:///file.",
    )


def _refuse_overlap(blobs: Path, to_blobs: Path) -> None:
    here, there = blobs.resolve(), to_blobs.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise InvalidError(
            "same_folder",
            "--to-blobs lies in the folder that shall be copied, or around it. Without --to-blobs "
            "the files stay in use where they are.",
        )


@contextmanager
def _told(side: str) -> Iterator[None]:
    """Say which side it was, and what to do."""
    try:
        yield
    except (UnavailableError, TimedOutError) as error:
        system = str(error.details.get("system", "database"))
        raise UnavailableError(system, f"{side}: {error.message} {_AGAIN}") from error
    except StorageFullError as error:
        said = f"{side}: {error.message} Make room there. {_AGAIN}"
        raise StorageFullError(error.code, said) from error


def _tell_rows(compared: Sequence[Compared], say: Callable[[str], None]) -> None:
    say(f"{'table':28}{'rows here':>12}{'rows there':>12}  sha256 of all rows")
    for table in compared:
        here, there = (each[:_HASH_SHOWN] for each in (table.sha256_here, table.sha256_there))
        verdict = f"{here} on both sides" if table.is_same else f"{here} here, {there} there"
        say(f"{table.name:28}{table.here:>12}{table.there:>12}  {verdict}")
    for table in compared:
        if not table.is_same:
            say(
                f"{table.name} differs, first at {table.difference}: "
                "is a sidecar serving from the destination already?"
            )


def _tell_files(files: Files, moved: bool, say: Callable[[str], None]) -> None:
    if not moved:
        say(f"files: {files.already} that rows name are in their place, {files.bytes} bytes")
    else:
        say(
            f"files: {files.copied} copied, {files.already} were there already, "
            f"{files.bytes} bytes; each read again and compared"
        )
    for name in files.ignored:
        say(f"not a file of ours, left: {name}")
    for trouble in files.troubles:
        say(f"NOT THERE: {trouble}")


def _tell_runs(unfinished: Mapping[Status, int], say: Callable[[str], None]) -> None:
    if not unfinished:
        return
    waiting = unfinished.get(Status.QUEUED, 0)
    under_way = sum(unfinished.values()) - waiting
    say(
        f"unfinished runs: {waiting} are queued there as here; {under_way} were under way and are "
        "queued there, for their next attempt. Serve from one of the two only, or they run twice."
    )

"""The use-cases of resumable uploads: the bytes first, then a LoRA like any other."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from ..clock import Clock, NewId
from ..database import Database
from ..errors import (
    AtelierError,
    ConflictError,
    InvalidError,
    NotFoundError,
    QuotaError,
)
from ..loras.intake import LoraIntake
from ..loras.safetensors import HeadCheck
from ..principal import SYSTEM, Principal
from .files import UploadFiles
from .finishing import RETRY_SECONDS, Finisher
from .models import UNFINISHED, Checksum, Progress, Upload, UploadState
from .store import PairsUploads, UploadStore
from .wanted import Wanted

MOST_UNFINISHED = 100
"""Uploads that one account may have open."""

log = logging.getLogger(__name__)


class ChecksumError(InvalidError):
    """A chunk is not what its checksum says; it was dropped."""


class UploadService:
    """One person's uploads. Someone else's are NotFoundError, as if they did not exist."""

    def __init__(
        self,
        database: Database,
        intake: LoraIntake,
        files: UploadFiles,
        clock: Clock,
        new_id: NewId,
        *,
        worker_id: str,
        seconds: int,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._database = database
        self._intake = intake
        self._files = files
        self._finisher = Finisher(database, intake, files, retry_seconds=retry_seconds)
        self._clock = clock
        self._new_id = new_id
        self._worker_id = worker_id
        self._life = timedelta(seconds=seconds)
        self._writers: dict[UUID, asyncio.Task[Any]] = {}

    async def create(
        self, principal: Principal, length: int, metadata: Mapping[str, str]
    ) -> Progress:
        """Begin one. InvalidError for metadata that cannot become a LoRA, NotFoundError for a
        version of one that is not there, TooLargeError and
        StorageFullError("quota_exceeded") before any byte, QuotaError("too_many_uploads")."""
        wanted = Wanted.of(metadata)
        if wanted.lora_id is not None:
            await self._intake.require(principal, wanted.lora_id)
        await self._intake.refuse_unaffordable(principal, length)
        now = self._clock.now()
        upload = Upload(
            self._new_id(),
            principal.id,
            self._worker_id,
            length,
            dict(metadata),
            UploadState.RECEIVING,
            now,
            now + self._life,
        )
        await self._files.make(upload.id)
        try:
            await self._add(principal, upload)
        except BaseException:
            await self._files.remove(upload.id)
            raise
        return Progress(upload, 0)

    async def _add(self, principal: Principal, upload: Upload) -> None:
        async with self._database.transaction(principal) as tx:
            await tx.alone("uploads")
            store = UploadStore(tx)
            if len(await store.unfinished()) >= MOST_UNFINISHED:
                raise QuotaError(
                    "too_many_uploads",
                    f"{MOST_UNFINISHED} uploads have begun and not ended.",
                    {"retry_after": 60, "max_unfinished": MOST_UNFINISHED},
                )
            await store.add(upload)

    async def get(self, principal: Principal, upload_id: UUID) -> Progress:
        """One, as it is now. NotFoundError, also when it has expired."""
        return await self._progress(await self._found(principal, upload_id))

    async def settled(self, principal: Principal, upload_id: UUID) -> Progress:
        """The same when nobody sends to it any more: who asks has lost the earlier connection."""
        await self._found(principal, upload_id)
        await self._end_writer(upload_id)
        progress = await self.get(principal, upload_id)
        self._require_here(progress.upload)
        return progress

    async def all(self, principal: Principal) -> Sequence[Progress]:
        """Those that have not expired, newest first."""
        async with self._database.transaction(principal, read_only=True) as tx:
            newest = await UploadStore(tx).newest()
        now = self._clock.now()
        return [await self._progress(each) for each in newest if each.expires_at > now]

    async def append(
        self,
        principal: Principal,
        upload_id: UUID,
        offset: int,
        chunks: AsyncIterator[bytes],
        checksum: Checksum | None = None,
    ) -> Progress:
        """Add what comes; with the last byte the LoRA is made before this returns.

        ConflictError("wrong_offset", "upload_ended" or "upload_elsewhere"), ChecksumError,
        UnsupportedError("not_safetensors") as soon as the header shows it; when all bytes are
        there also what LoraIntake.adopt raises. Somebody who still sends is cut off.
        """
        upload = (await self.settled(principal, upload_id)).upload
        if upload.state is not UploadState.RECEIVING:
            raise ConflictError(
                "upload_ended", "The upload takes no more bytes.", {"state": upload.state.value}
            )
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        self._writers[upload_id] = task
        try:
            await self._receive(principal, upload, offset, chunks, checksum)
        finally:
            if self._writers.get(upload_id) is task:
                del self._writers[upload_id]
        return await self._received(principal, upload)

    async def delete(self, principal: Principal, upload_id: UUID) -> None:
        """Forget one and its bytes; the LoRA that it became stays. ConflictError("upload_ended")
        while that is being made."""
        upload = await self._found(principal, upload_id)
        self._require_here(upload)
        await self._end_writer(upload_id)
        if self._finisher.is_at(upload_id):
            raise ConflictError("upload_ended", "Its LoRA is being made.", {"state": "finishing"})
        await self._forget(principal, upload_id)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Make the LoRAs of uploads that a crash left whole; end what is under way with the block.

        What is ended so is gone on with by the next start.
        """
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            left = await PairsUploads(tx).unfinished(self._worker_id)
        for upload_id, owner_id, length in left:
            # the last byte may have come and nobody been told: a client asks for no more then
            if length in (None, await self._files.offset(upload_id)):
                await self._all_is_there(Principal(owner_id), upload_id)
                self._finisher.begin(Principal(owner_id), upload_id).add_done_callback(_told)
        try:
            yield
        finally:
            await self._finisher.stop()

    async def _receive(
        self,
        principal: Principal,
        upload: Upload,
        offset: int,
        chunks: AsyncIterator[bytes],
        checksum: Checksum | None,
    ) -> None:
        check = HeadCheck(upload.length)
        if offset:
            await check.feed(await self._files.head(upload.id, min(offset, check.most)))
        passed = _bounded(_checked(chunks, check), upload.length - offset)
        try:
            is_good = await self._files.append(upload.id, offset, passed, checksum)
        except AtelierError as error:
            if check.has_failed:
                await self._finisher.fail(principal, upload.id, error)
            raise
        finally:
            await asyncio.shield(self._stay_alive(principal, upload.id))
        if not is_good:
            raise ChecksumError("checksum_mismatch", "The chunk is not what its checksum says.")

    async def _received(self, principal: Principal, upload: Upload) -> Progress:
        if await self._files.offset(upload.id) < upload.length:
            return await self.get(principal, upload.id)
        await self._all_is_there(principal, upload.id)
        return await self._finisher.finished(principal, upload.id)

    async def _all_is_there(self, principal: Principal, upload_id: UUID) -> None:
        async with self._database.transaction(principal) as tx:
            await UploadStore(tx).change(
                upload_id, [UploadState.RECEIVING], state=UploadState.FINISHING
            )

    async def _progress(self, upload: Upload) -> Progress:
        if upload.state is UploadState.STORED:
            return Progress(upload, upload.length)
        if upload.worker_id != self._worker_id:
            return Progress(upload, 0)
        return Progress(upload, await self._files.offset(upload.id))

    async def _stay_alive(self, principal: Principal, upload_id: UUID) -> None:
        async with self._database.transaction(principal) as tx:
            await UploadStore(tx).change(
                upload_id, UNFINISHED, expires_at=self._clock.now() + self._life
            )

    async def _end_writer(self, upload_id: UUID) -> None:
        writer = self._writers.get(upload_id)
        if writer is not None and writer is not asyncio.current_task():
            writer.cancel()
            await asyncio.wait({writer})

    async def _forget(self, principal: Principal, upload_id: UUID) -> None:
        async with self._database.transaction(principal) as tx:
            await UploadStore(tx).delete(upload_id)
        await self._files.remove(upload_id)

    async def _found(self, principal: Principal, upload_id: UUID) -> Upload:
        async with self._database.transaction(principal, read_only=True) as tx:
            upload = await UploadStore(tx).get(upload_id)
        if upload is None or upload.expires_at <= self._clock.now():
            raise NotFoundError("upload")
        return upload

    def _require_here(self, upload: Upload) -> None:
        if upload.worker_id != self._worker_id:
            raise ConflictError(
                "upload_elsewhere", "Another machine of the studio has the bytes of this upload."
            )


def _told(task: "asyncio.Task[Progress]") -> None:
    """An upload that an earlier process left whole."""
    if not task.cancelled():
        log.info("upload.resumed", extra={"failed": task.exception() is not None})


async def _checked(chunks: AsyncIterator[bytes], check: HeadCheck) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        await check.feed(chunk)
        yield chunk


async def _bounded(chunks: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        most -= len(chunk)
        if most < 0:
            raise InvalidError(
                "upload_too_long",
                "The chunk has more bytes than the upload said it would have.",
                {"fields": {"Upload-Length": "expected as many bytes as are sent"}},
            )
        yield chunk

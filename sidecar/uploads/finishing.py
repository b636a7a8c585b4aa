"""Making the LoRA of an upload whose bytes are all there, however often that takes."""

import asyncio
import logging
from dataclasses import replace
from uuid import UUID

from ..database import Database
from ..errors import (
    AtelierError,
    NotFoundError,
    StorageFullError,
    TimedOutError,
    UnavailableError,
    UpstreamError,
)
from ..loras.intake import LoraIntake, Taken
from ..principal import Principal
from .files import UploadFiles
from .models import UNFINISHED, Progress, Upload, UploadState
from .store import UploadStore
from .wanted import Wanted

RETRY_SECONDS = 15.0

log = logging.getLogger(__name__)


class Finisher:
    """Finishes uploads, each in a task of its own: who sent the last byte may be gone by then."""

    def __init__(
        self,
        database: Database,
        intake: LoraIntake,
        files: UploadFiles,
        *,
        retry_seconds: float,
    ) -> None:
        self._database = database
        self._intake = intake
        self._files = files
        self._retry_seconds = retry_seconds
        self._tasks: dict[UUID, asyncio.Task[Progress]] = {}

    def is_at(self, upload_id: UUID) -> bool:
        """Whether it is being finished now."""
        return upload_id in self._tasks

    async def finished(self, principal: Principal, upload_id: UUID) -> Progress:
        """The upload when its LoRA is there; raises why it will never be."""
        task = self.begin(principal, upload_id)
        await asyncio.wait({task})
        if task.cancelled():
            raise UnavailableError("uploads", "The studio is stopping; it goes on when it is back.")
        return task.result()

    def begin(self, principal: Principal, upload_id: UUID) -> "asyncio.Task[Progress]":
        """Begin, unless that has been done."""
        if upload_id not in self._tasks:
            task = asyncio.create_task(self._finish(principal, upload_id))
            self._tasks[upload_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(upload_id, None))
            # seen, also when nobody waits for it
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self._tasks[upload_id]

    async def stop(self) -> None:
        """End what is under way; the next start goes on with it."""
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _finish(self, principal: Principal, upload_id: UUID) -> Progress:
        """Make the LoRA; for as long as something is away, again and again."""
        while True:
            try:
                return await self._made(principal, await self._found(principal, upload_id))
            except (UnavailableError, TimedOutError) as error:
                log.warning("upload.waits", extra={"upload": str(upload_id), "code": error.code})
            except StorageFullError as error:
                if error.code == "quota_exceeded":
                    await self.fail(principal, upload_id, error)
                    raise
                log.warning("upload.waits", extra={"upload": str(upload_id), "code": error.code})
            except AtelierError as error:
                await self.fail(principal, upload_id, error)
                raise
            await asyncio.sleep(self._retry_seconds)

    async def _made(self, principal: Principal, upload: Upload) -> Progress:
        taken = await self._taken(principal, upload)
        async with self._database.transaction(principal) as tx:
            await UploadStore(tx).change(
                upload.id,
                [UploadState.FINISHING],
                state=UploadState.STORED,
                lora_id=taken.lora_id,
                lora_version=taken.version,
            )
        await self._files.remove(upload.id)
        stored = replace(
            upload,
            state=UploadState.STORED,
            lora_id=taken.lora_id,
            lora_version=taken.version,
        )
        return Progress(stored, upload.length)

    async def _taken(self, principal: Principal, upload: Upload) -> Taken:
        wanted = Wanted.of(upload.metadata)
        try:
            return await self._intake.adopt(
                principal,
                self._files.path(upload.id),
                wanted.fields,
                called=wanted.filename,
                lora_id=wanted.lora_id,
                upload_id=upload.id,
            )
        except FileNotFoundError:
            raise UpstreamError("uploads", "The bytes of the upload are gone.") from None
        except OSError as error:
            raise UnavailableError("uploads", "The folder for uploads cannot be read.") from error

    async def fail(self, principal: Principal, upload_id: UUID, error: AtelierError) -> None:
        """Say why no LoRA comes of it, and drop its bytes."""
        said = {"code": error.code, "message": error.message}
        async with self._database.transaction(principal) as tx:
            await UploadStore(tx).change(
                upload_id, UNFINISHED, state=UploadState.FAILED, error=said
            )
        await self._files.remove(upload_id)

    async def _found(self, principal: Principal, upload_id: UUID) -> Upload:
        async with self._database.transaction(principal, read_only=True) as tx:
            upload = await UploadStore(tx).get(upload_id)
        if upload is None:
            raise NotFoundError("upload")
        return upload

"""Keeping what a run made: every output is streamed from ComfyUI into blobs."""

from collections.abc import AsyncIterator
from pathlib import PurePosixPath

from ..blobs import BlobStore, StoredBlob
from ..comfyui import ComfyUI
from ..engine import Go
from ..errors import NotFoundError
from ..principal import Principal
from .journal import RunJournal
from .models import Output, Run, RunError
from .outputs import (
    Reported,
    content_type_of,
    gpu_seconds,
    reported_outputs,
    type_of,
    verdict,
)
from .patience import Patience

_SUFFIX_LENGTH = 16


class Collector:
    """Ends runs that ComfyUI is done with."""

    def __init__(
        self,
        comfyui: ComfyUI,
        blobs: BlobStore,
        journal: RunJournal,
        patience: Patience,
        max_attempts: int,
    ) -> None:
        self._comfyui = comfyui
        self._blobs = blobs
        self._journal = journal
        self._patience = patience
        self._max_attempts = max_attempts

    async def collect(self, run: Run) -> Go:
        """Keep every output, then end the run as ComfyUI's history says."""
        if run.history is None:
            raise ValueError("a run is collected after it was followed")
        outputs: list[Output] = []
        missing: RunError | None = None
        for index, reported in enumerate(reported_outputs(run.history["outputs"])):
            try:
                output = await self._keep(run, index, reported)
            except NotFoundError:
                missing = missing or RunError(
                    "output_missing",
                    "ComfyUI does not have a file that it says this run made.",
                    reported.node_id,
                    {"filename": reported.filename, "folder": reported.folder},
                )
                continue
            if not await self._journal.output(run, output):
                # cancelled, perhaps deleted already: nobody else would remove it
                await self._blobs.delete(output.key)
                return Go.STOP
            outputs.append(output)
        if missing is not None:
            await self._journal.requeue(run, self._max_attempts, missing, outputs)
            return Go.STOP
        status, error = verdict(run.history)
        await self._journal.finish(
            run, status, error=error, outputs=outputs, gpu_seconds=gpu_seconds(run.history)
        )
        return Go.STOP

    async def _keep(self, run: Run, index: int, reported: Reported) -> Output:
        suffix = PurePosixPath(reported.filename).suffix
        if len(suffix) > _SUFFIX_LENGTH or not suffix[1:].isalnum() or not suffix.isascii():
            suffix = ""
        folder = Principal(run.owner_id).folder
        key = f"{folder}/runs/{run.id}/{run.attempts}-{index}{suffix}"
        stored = await self._patience.repeat(
            run.id, lambda: self._patience.while_running(run.id, self._store(key, reported))
        )
        content_type = content_type_of(reported.filename)
        return Output(
            index=index,
            node_id=reported.node_id,
            filename=reported.filename,
            type=type_of(content_type),
            content_type=content_type,
            bytes=stored.size,
            sha256=stored.sha256,
            key=key,
            folder=reported.folder,
        )

    async def _store(self, key: str, reported: Reported) -> StoredBlob:
        if reported.file is None:
            return await self._blobs.put(key, _once((reported.text or "").encode()))
        async with self._comfyui.open_file(reported.file) as chunks:
            return await self._blobs.put(key, chunks)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data

"""Keeping what a run made: every output is streamed from ComfyUI into blobs."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import PurePosixPath

from ..blobs import BlobStore
from ..comfyui import ComfyUI
from ..durable import alongside
from ..engine import Go
from ..errors import NotFoundError
from ..principal import Principal
from .journal import RunJournal
from .models import Output, Run, RunError, Status
from .outputs import (
    Reported,
    content_type_of,
    gpu_seconds,
    reported_outputs,
    shown,
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
        unreadable: RunError | None = None
        for index, reported in enumerate(reported_outputs(run.history["outputs"])):
            if not reported.is_readable:
                unreadable = unreadable or _unreadable(reported)
                continue
            try:
                output = await self._keep(run, index, reported)
            except NotFoundError:
                missing = missing or _missing(reported)
                continue
            if not await self._journal.output(run, output):
                # cancelled, perhaps deleted already: nobody else would remove it
                await self._blobs.delete(output.key)
                return Go.STOP
            outputs.append(output)
        await self._end(run, outputs, missing, unreadable)
        return Go.STOP

    async def _end(
        self,
        run: Run,
        outputs: list[Output],
        missing: RunError | None,
        unreadable: RunError | None,
    ) -> None:
        """A name that cannot be read comes again at every attempt, a missing file may not."""
        if missing is not None and unreadable is None:
            await self._journal.requeue(run, self._max_attempts, missing, outputs)
            return
        status, error = verdict(run.history or {})
        if unreadable is not None and status is Status.SUCCEEDED:
            status, error = Status.FAILED, unreadable
        await self._journal.finish(
            run, status, error=error, outputs=outputs, gpu_seconds=gpu_seconds(run.history or {})
        )

    async def _keep(self, run: Run, index: int, reported: Reported) -> Output:
        suffix = PurePosixPath(reported.filename).suffix
        if len(suffix) > _SUFFIX_LENGTH or not suffix[1:].isalnum() or not suffix.isascii():
            suffix = ""
        folder = Principal(run.owner_id).folder
        key = f"{folder}/runs/{run.id}/{run.attempts}-{index}{suffix}"
        size, sha256 = await self._patience.repeat(
            run.id, lambda: self._patience.while_running(run.id, self._store(key, reported))
        )
        content_type = content_type_of(reported.filename)
        return Output(
            index=index,
            node_id=reported.node_id,
            filename=reported.filename,
            type=type_of(content_type),
            content_type=content_type,
            bytes=size,
            sha256=sha256,
            key=key,
            folder=reported.folder,
        )

    async def _store(self, key: str, reported: Reported) -> tuple[int, str]:
        """Keep the bytes; how many they are, and their sha256."""
        digest = hashlib.sha256()
        if reported.file is None:
            text = (reported.text or "").encode()
            size = await self._blobs.put(key, alongside(_once(text), digest.update))
        else:
            async with self._comfyui.open_file(reported.file) as chunks:
                size = await self._blobs.put(key, alongside(chunks, digest.update))
        return size, digest.hexdigest()


def _missing(reported: Reported) -> RunError:
    return RunError(
        "output_missing",
        "ComfyUI does not have a file that it says this run made.",
        reported.node_id,
        {"filename": reported.filename, "folder": reported.folder},
    )


def _unreadable(reported: Reported) -> RunError:
    return RunError(
        "output_unreadable",
        "A file that this run made has a control character in its name, with which ComfyUI cannot "
        "send it. Take it out of the filename_prefix.",
        reported.node_id,
        {"filename": shown(reported.filename), "folder": reported.folder},
    )


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data

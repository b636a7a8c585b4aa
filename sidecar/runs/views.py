"""What the routes of runs take and answer."""

from datetime import datetime, timezone
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from ..database.pages import Page, PageQuery
from .models import OutputType, Run, Source, Status


class RunOrder(BaseModel):
    """``POST /workflows/{id}/run``."""

    model_config = ConfigDict(extra="forbid")

    input_params: dict[str, Any] = Field(default_factory=dict, max_length=500)
    version: int | None = Field(default=None, ge=1, lt=2**31)


class PromptOrder(BaseModel):
    """``POST /runs``: a graph in API format that is not stored as a workflow."""

    model_config = ConfigDict(extra="forbid")

    workflow_json: Any
    input_params: dict[str, Any] = Field(default_factory=dict, max_length=500)


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(timezone.utc)
    except OverflowError:
        raise ValueError("lies outside of the years 1 to 9999") from None


class RunQuery(PageQuery):
    """``GET /runs``."""

    status: Status | None = None
    workflow_id: UUID | None = None
    since: Annotated[AwareDatetime, AfterValidator(_in_utc)] | None = None


class OutputView(BaseModel):
    """An output as clients see it; ``url`` is a path on this host."""

    index: int
    node_id: str
    filename: str
    type: OutputType
    content_type: str
    bytes: int
    sha256: str
    url: str


class PinView(BaseModel):
    """The LoRA version that a run holds on to; ``path`` is below ComfyUI's LoRA folder."""

    name: str
    version: int
    sha256: str
    path: str


class ErrorView(BaseModel):
    """Why a run did not succeed."""

    code: str
    message: str
    node_id: str | None
    details: dict[str, Any]


class ProgressView(BaseModel):
    """What the current node is at."""

    value: float
    max: float
    node: str | None


class RunView(BaseModel):
    """A run as clients see it. ``position`` counts the queued runs before it."""

    id: UUID
    workflow_id: UUID | None
    workflow_version: int | None
    source: Source
    status: Status
    position: int | None = None
    input_params: dict[str, Any]
    loras: list[PinView]
    progress: ProgressView | None
    outputs: list[OutputView]
    error: ErrorView | None
    worker: str | None
    attempts: int
    gpu_seconds: float | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, run: Run, base: str, position: int | None = None) -> "RunView":
        """Show a run; ``base`` is the path that output urls start with."""
        outputs = [
            OutputView(
                index=o.index,
                node_id=o.node_id,
                filename=o.filename,
                type=o.type,
                content_type=o.content_type,
                bytes=o.bytes,
                sha256=o.sha256,
                url=f"{base}/runs/{run.id}/outputs/{o.index}",
            )
            for o in run.outputs
        ]
        error = run.error and ErrorView(
            code=run.error.code,
            message=run.error.message,
            node_id=run.error.node_id,
            details=dict(run.error.details),
        )
        progress = run.progress and ProgressView(
            value=run.progress.value, max=run.progress.max, node=run.progress.node
        )
        return cls(
            id=run.id,
            workflow_id=run.workflow_id,
            workflow_version=run.workflow_version,
            source=run.source,
            status=run.status,
            position=position,
            input_params=dict(run.input_params),
            loras=[
                PinView(name=p.name, version=p.version, sha256=p.sha256, path=str(p.path))
                for p in run.loras
            ],
            progress=progress,
            outputs=outputs,
            error=error,
            worker=run.worker_id,
            attempts=run.attempts,
            gpu_seconds=run.gpu_seconds,
            created_at=run.created_at,
            started_at=run.started_at,
            finished_at=run.finished_at,
        )


class RunPage(BaseModel):
    """One page of runs, newest first."""

    items: list[RunView]
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[Run], base: str) -> "RunPage":
        """Show a page."""
        return cls(
            items=[RunView.of(run, base) for run in page.items], next_cursor=page.next_cursor
        )


class AdmitOrder(BaseModel):
    """``POST /internal/admit``: the body that was posted to ComfyUI's ``/prompt``."""

    model_config = ConfigDict(extra="forbid")

    body: dict[str, Any]


class AdmitAnswer(BaseModel):
    """What ComfyUI shall be given instead."""

    run_id: UUID
    body: dict[str, Any]


class AdmittedOrder(BaseModel):
    """``POST /internal/admitted``: what ComfyUI answered to an admitted prompt."""

    model_config = ConfigDict(extra="forbid")

    run_id: UUID
    status: int
    answer: Any = None


class EnsureOrder(BaseModel):
    """``POST /internal/loras/ensure`` and ``/resolve``: a name as written in a prompt."""

    model_config = ConfigDict(extra="forbid")

    prompt_id: str | None = None
    lora: str


class ResolvedLora(BaseModel):
    """A LoRA file; ``path`` is below ComfyUI's LoRA folder, with ``/``.

    ``sha256``, ``name`` and ``version`` are null for a file of ComfyUI's own.
    """

    path: str
    sha256: str | None = None
    name: str | None = None
    version: int | None = None

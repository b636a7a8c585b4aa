"""Values of the workflows room, and what its routes take and answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ..comfyui import Prompt
from ..database.pages import Page, PageQuery
from .graph import DeclaredInput

MAX_VERSION = 2**31 - 1

Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


@dataclass(frozen=True)
class Workflow:
    """A stored workflow, without its graphs."""

    id: UUID
    name: str
    description: str
    tags: Sequence[str]
    head_version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Body:
    """What a version keeps, as JSON exactly as given. ``graph`` is the editor's own format."""

    workflow_json: Mapping[str, Any]
    graph: Mapping[str, Any] | None
    inputs: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class VersionSummary:
    """A version without its body. ``sha256`` (lower-case hex) is the body's."""

    version: int
    sha256: str
    author_id: UUID
    note: str
    created_at: datetime


@dataclass(frozen=True)
class StoredVersion:
    """A version with its body."""

    summary: VersionSummary
    body: Body


@dataclass(frozen=True)
class WorkflowVersion:
    """A version ready to run: ``prompt`` holds only what ComfyUI may see."""

    workflow_id: UUID
    version: int
    name: str
    prompt: Prompt
    graph: Mapping[str, Any] | None
    inputs: tuple[DeclaredInput, ...]


class WorkflowOrder(BaseModel):
    """A workflow to store. ``workflow_json`` is ComfyUI's API format."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    description: str = Field(default="", max_length=10_000)
    tags: list[Tag] = Field(default_factory=list, max_length=50)
    workflow_json: dict[str, Any]
    graph: dict[str, Any] | None = None
    inputs: list[DeclaredInput] = Field(default_factory=list, max_length=500)

    @property
    def body(self) -> Body:
        """What a version keeps of it."""
        inputs = [each.model_dump(exclude_unset=True) for each in self.inputs]
        return Body(self.workflow_json, self.graph, inputs)


class WorkflowReplacement(WorkflowOrder):
    """What replaces a workflow. ``base_version`` is the version that the caller started from."""

    base_version: int | None = Field(default=None, ge=1, le=MAX_VERSION)


class WorkflowQuery(PageQuery):
    """``q`` looks in names and descriptions; ``tag`` is a whole tag."""

    q: str | None = Field(default=None, min_length=1, max_length=200)
    tag: str | None = Field(default=None, min_length=1, max_length=100)
    scope: Literal["mine"] = "mine"


class VersionQuery(BaseModel):
    """Which version; by default the newest."""

    model_config = ConfigDict(extra="forbid")

    version: int | None = Field(default=None, ge=1, le=MAX_VERSION)


class WorkflowItem(BaseModel):
    """A workflow as a list shows it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    description: str
    tags: list[str]
    head_version: int
    created_at: datetime
    updated_at: datetime


class WorkflowList(BaseModel):
    """A page of workflows, newest first."""

    items: list[WorkflowItem]
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[Workflow]) -> "WorkflowList":
        """The page as an answer."""
        items = [WorkflowItem.model_validate(workflow) for workflow in page.items]
        return cls(items=items, next_cursor=page.next_cursor)


class WorkflowView(WorkflowItem):
    """A workflow with one of its versions: ``version``."""

    version: int
    sha256: str
    workflow_json: dict[str, Any]
    graph: dict[str, Any] | None
    inputs: list[dict[str, Any]]

    @classmethod
    def of(cls, workflow: Workflow, stored: StoredVersion) -> "WorkflowView":
        """Both as one answer."""
        return cls(
            **WorkflowItem.model_validate(workflow).model_dump(),
            version=stored.summary.version,
            sha256=stored.summary.sha256,
            workflow_json=dict(stored.body.workflow_json),
            graph=None if stored.body.graph is None else dict(stored.body.graph),
            inputs=[dict(each) for each in stored.body.inputs],
        )


class VersionItem(BaseModel):
    """A version as a list shows it."""

    model_config = ConfigDict(from_attributes=True)

    version: int
    sha256: str
    author_id: UUID
    note: str
    created_at: datetime


class VersionList(BaseModel):
    """A page of a workflow's versions, newest first."""

    items: list[VersionItem]
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[VersionSummary]) -> "VersionList":
        """The page as an answer."""
        items = [VersionItem.model_validate(summary) for summary in page.items]
        return cls(items=items, next_cursor=page.next_cursor)

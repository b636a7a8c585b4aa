"""What the routes of LoRAs take and answer."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints

from ..database.pages import Page, PageQuery
from .models import Access, Lora, LoraDetail, LoraVersion, Shared, VersionState, VersionUses
from .safetensors import auto_v2
from .trainer_metadata import TriggerWord

# PostgreSQL stores no NUL.
Text: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
Description: TypeAlias = Annotated[Text, Field(max_length=10_000)]
Tag: TypeAlias = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$"
    ),
]
User: TypeAlias = Annotated[Text, Field(min_length=1, max_length=254)]
Tags: TypeAlias = Annotated[list[Tag], Field(max_length=50)]


class LoraQuery(PageQuery):
    """What ``GET /loras`` takes. ``q`` is searched for in names and descriptions; ``shared`` is
    what others share with the caller."""

    q: Annotated[Text, Field(max_length=200)] | None = None
    tag: Annotated[Text, Field(max_length=100)] | None = None
    base_model: Annotated[Text, Field(max_length=200)] | None = None
    scope: Literal["mine", "shared", "all"] = "mine"


class LoraChange(BaseModel):
    """What ``PATCH /loras/{id}`` takes; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    name: Text | None = None
    description: Description | None = None
    tags: Tags | None = None


class VersionQuery(BaseModel):
    """What ``GET /loras/{id}/file`` takes; the head without ``version``."""

    model_config = ConfigDict(extra="forbid")

    version: Annotated[int, Field(ge=1, lt=2**31)] | None = None


class TriggerWordView(BaseModel):
    """A word that the LoRA was trained on, and how often."""

    word: str
    count: int


class LoraVersionView(BaseModel):
    """One file. Hashes in lower-case hex, size in bytes. ``damaged``: the store gives other bytes
    than were uploaded; uploading the file again mends it."""

    version: int
    bytes: int
    sha256: str
    autov2: str
    autov3: str
    state: VersionState
    created_at: datetime

    @classmethod
    def of(cls, version: LoraVersion) -> "LoraVersionView":
        """Show a version."""
        return cls(
            version=version.version,
            bytes=version.bytes,
            sha256=version.sha256,
            autov2=auto_v2(version.sha256),
            autov3=version.autov3,
            state=version.state,
            created_at=version.created_at,
        )


class LoraSummary(BaseModel):
    """A LoRA in a list; the figures are those of its head version.

    ``access``: one's own, or what one may do with another's, whose ``owner`` is then named as
    prompts name it, ``@<owner>/<name>``.
    """

    id: UUID
    access: Access
    owner: str | None
    name: str
    stem: str
    description: str
    tags: list[str]
    version: int
    bytes: int
    sha256: str
    autov2: str
    autov3: str
    state: VersionState
    base_model: str | None
    rank: int | None
    trigger_words: list[TriggerWordView]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, lora: Lora) -> "LoraSummary":
        """Show a LoRA in a list."""
        return cls.model_validate(_summary(lora))


class LoraView(LoraSummary):
    """A LoRA in full. ``path`` is the head's file below ComfyUI's LoRA folder, and ``synced``
    whether it is there now."""

    alpha: float | None
    title: str | None
    author: str | None
    output_name: str | None
    network_module: str | None
    path: str
    synced: bool
    versions: list[LoraVersionView]

    @classmethod
    def of_detail(cls, detail: LoraDetail) -> "LoraView":
        """Show a LoRA in full."""
        lora = detail.lora
        return cls.model_validate(
            asdict(lora.head.metadata)
            | _summary(lora)
            | {
                "path": str(detail.path),
                "synced": detail.synced,
                "versions": [LoraVersionView.of(version) for version in detail.versions],
            }
        )


class LoraList(BaseModel):
    """A page of LoRAs."""

    items: list[LoraSummary]
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[Lora]) -> "LoraList":
        """The page as an answer."""
        items = [LoraSummary.of(lora) for lora in page.items]
        return cls(items=items, next_cursor=page.next_cursor)


class ShareOrder(BaseModel):
    """What ``PUT /loras/{id}/shares`` takes: everybody whom it is shared with from now on.

    ``users`` are e-mail addresses or ids of accounts.
    """

    model_config = ConfigDict(extra="forbid")

    everyone: bool = False
    users: Annotated[list[User], Field(max_length=200)] = Field(default_factory=list)
    can_download: bool = False


class GranteeView(BaseModel):
    """Somebody whom a LoRA is shared with."""

    id: UUID
    user: str


class SharesView(BaseModel):
    """Whom a LoRA is shared with; ``can_download``: they may take its file as well."""

    everyone: bool
    users: list[GranteeView]
    can_download: bool

    @classmethod
    def of(cls, shared: Shared) -> "SharesView":
        """The list as an answer."""
        users = [GranteeView(id=each, user=user) for each, user in shared.people.items()]
        return cls(everyone=shared.everyone, users=users, can_download=shared.can_download)


class WorkflowUseView(BaseModel):
    """A stored workflow whose runs used a version."""

    id: UUID
    name: str
    runs: int
    last_used_at: datetime


class VersionUsesView(BaseModel):
    """What a version is used by: your runs, and up to 100 of your workflows behind them.

    ``is_needed``: an unfinished run needs it, perhaps somebody's with whom it is shared, so that it
    cannot be deleted now.
    """

    runs: int
    unfinished_runs: int
    last_used_at: datetime | None
    workflows: list[WorkflowUseView]
    is_needed: bool

    @classmethod
    def of(cls, uses: VersionUses) -> "VersionUsesView":
        """The uses as an answer."""
        return cls.model_validate(asdict(uses))


class LoraNames(RootModel[list[str]]):
    """Names to choose from, as a prompt may hold them."""


def _summary(lora: Lora) -> dict[str, Any]:
    head = lora.head
    return LoraVersionView.of(head).model_dump(exclude={"created_at"}) | {
        "id": lora.id,
        "access": lora.access,
        "owner": lora.owner,
        "name": lora.name,
        "stem": lora.stem,
        "description": lora.description,
        "tags": list(lora.tags),
        "base_model": head.metadata.base_model,
        "rank": head.metadata.rank,
        "trigger_words": [_word(word) for word in head.metadata.trigger_words],
        "created_at": lora.created_at,
        "updated_at": lora.updated_at,
    }


def _word(word: TriggerWord) -> dict[str, Any]:
    return {"word": word.word, "count": word.count}

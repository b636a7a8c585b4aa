"""ComfyUI as the sidecar sees it: the port, and the values that cross it.

Routes, fields and message types are ComfyUI's own; the shapes were read from 0.3.64's
``server.py`` and ``execution.py``.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, TypeAlias

from ..errors import InvalidError

Prompt: TypeAlias = dict[str, Any]
"""API format: ``{node id: {"class_type": str, "inputs": {name: value or [node id, index]}}}``."""

ObjectInfo: TypeAlias = Mapping[str, Any]
"""What ``GET /object_info`` says: ``{class_type: {"input": {"required": ..., ...}, ...}}``."""


PARTIAL = "partial_execution_targets"
"""Field of ``POST /prompt``: ids of output nodes to execute. ``submit`` takes it in extra_data."""


class Place(str, Enum):
    """Where ComfyUI has a prompt."""

    PENDING = "pending"
    RUNNING = "running"
    FINISHED = "finished"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class HistoryEntry:
    """A finished prompt: ``GET /history/{prompt_id}``.

    ``outputs`` is ``{node id: ui values}``; ``messages`` are ``(type, data)`` in order, with
    ``data["timestamp"]`` in milliseconds since the epoch where ComfyUI gives one.
    """

    status: str  # "success" or "error"
    outputs: Mapping[str, Any]
    messages: Sequence[tuple[str, Mapping[str, Any]]] = field(default=())


@dataclass(frozen=True)
class Whereabouts:
    """Where a prompt is; ``entry`` is there exactly when it is FINISHED.

    ``ahead`` counts the prompts before a PENDING one.
    """

    place: Place
    entry: HistoryEntry | None = None
    ahead: int = 0


@dataclass(frozen=True)
class Queue:
    """``GET /queue``: prompt ids, those that wait in the order in which they will run."""

    running: Sequence[str]
    pending: Sequence[str]


@dataclass(frozen=True)
class Message:
    """One JSON message of the websocket: ``type`` and ``data`` as ComfyUI sends them."""

    type: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class OutputFile:
    """A file as ComfyUI names it: folder ``type`` is ``output``, ``temp`` or ``input``."""

    filename: str
    subfolder: str
    type: str


@dataclass(frozen=True)
class SystemStats:
    """``GET /system_stats``, the part we use."""

    comfyui_version: str
    python_version: str


class PromptRefusedError(InvalidError):
    """ComfyUI answered a prompt with 400. ``details`` holds its ``error`` and ``node_errors``."""


class ComfyUI(Protocol):
    """One ComfyUI server.

    Every method raises UnavailableError("comfyui") when it cannot be reached,
    TimedOutError("comfyui") when it is too slow, and UpstreamError("comfyui") when it answers with
    an error or with something that cannot be read.
    """

    async def object_info(self, *, fresh: bool = False) -> ObjectInfo:
        """Every node class. Kept for a while; ``fresh`` asks again."""

    async def lora_files(self) -> Sequence[str]:
        """Relative names as this server lists them, with its own path separator."""

    async def submit(
        self, prompt_id: str, attempt: int, prompt: Prompt, extra_data: Mapping[str, Any]
    ) -> None:
        """Queue a prompt under our id; PromptRefusedError when validation fails.

        InvalidError("comfyui_refused") when the request itself is refused for good: too large for
        what stands in front, or without the right password. ``details.status`` says which.
        Never queues an id that is waiting, running or finished there already.
        """

    async def find(self, prompt_id: str) -> Whereabouts:
        """Where this prompt is: /history first, then /queue, then /history again."""

    async def queue(self) -> Queue:
        """What runs and waits there, in order: one cheap request for all prompts at once."""

    async def withdraw(self, prompt_id: str) -> None:
        """Take it out of the queue, or interrupt it if it runs. Nothing else is touched."""

    def messages(self) -> AbstractAsyncContextManager[AsyncIterator[Message]]:
        """The websocket, for prompts that ``submit`` queued. Ends when the connection does."""

    def open_file(self, file: OutputFile) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Stream a file from ``/view``. NotFoundError("output_file") when it is not there."""

    async def system_stats(self) -> SystemStats:
        """Version figures; the cheapest proof that it answers."""

"""ComfyUI's JSON answers, read into the port's values. What we do not use may be anything."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, TypeAdapter, ValidationError

from ..errors import InvalidError, UpstreamError
from . import HistoryEntry, ObjectInfo, Place, PromptRefusedError, Queue, SystemStats, Whereabouts
from .transport import Answer

T = TypeVar("T")

_PASSING = (408, 425, 429)
"""Refusals that say themselves that it may go well another time."""


class _Status(BaseModel):
    status_str: str
    messages: list[tuple[str, dict[str, Any]]] = []


class _HistoryItem(BaseModel):
    outputs: dict[str, Any]
    status: _Status | None = None


def _first_two(item: Any) -> Any:
    """Of ``[number, prompt_id, prompt, extra_data, outputs, ...]`` only what is used."""
    return item[:2] if isinstance(item, list) else item


_QueueItem = Annotated[tuple[float, str], BeforeValidator(_first_two)]


class _Queue(BaseModel):
    queue_running: list[_QueueItem]
    queue_pending: list[_QueueItem]


class _System(BaseModel):
    comfyui_version: str
    python_version: str


class _Stats(BaseModel):
    system: _System


class _Accepted(BaseModel):
    prompt_id: str


class _Problem(BaseModel):
    type: str
    message: str
    details: str = ""


class _Refusal(BaseModel):
    error: _Problem
    node_errors: dict[str, Any] = {}


_HISTORY = TypeAdapter(dict[str, _HistoryItem])
_QUEUE = TypeAdapter(_Queue)
_STATS = TypeAdapter(_Stats)
_ACCEPTED = TypeAdapter(_Accepted)
_REFUSAL = TypeAdapter(_Refusal)
_NAMES = TypeAdapter(list[str])
_CLASSES = TypeAdapter(dict[str, dict[str, Any]])


def history_entry(answer: Answer, prompt_id: str) -> HistoryEntry | None:
    """The entry of ``GET /history/{prompt_id}``; None when there is none."""
    item = _read(_HISTORY, answer).get(prompt_id)
    if item is None:
        return None
    if item.status is None:
        return HistoryEntry("success", item.outputs)
    return HistoryEntry(item.status.status_str, item.outputs, tuple(item.status.messages))


def place_in_queue(answer: Answer, prompt_id: str) -> Whereabouts | None:
    """Where ``GET /queue`` has the prompt; those that run count as ahead of those that wait."""
    queue = _read(_QUEUE, answer)
    if any(held == prompt_id for _, held in queue.queue_running):
        return Whereabouts(Place.RUNNING)
    # ComfyUI answers its heap as it lies; the number decides who is next
    waiting = [held for _, held in sorted(queue.queue_pending)]
    if prompt_id in waiting:
        return Whereabouts(Place.PENDING, ahead=waiting.index(prompt_id) + len(queue.queue_running))
    return None


def queue(answer: Answer) -> Queue:
    """``GET /queue``: ids only."""
    held = _read(_QUEUE, answer)
    return Queue(
        running=[prompt_id for _, prompt_id in held.queue_running],
        pending=[prompt_id for _, prompt_id in sorted(held.queue_pending)],
    )


def accepted_id(answer: Answer) -> str:
    """The id under which ``POST /prompt`` queued it."""
    return _read(_ACCEPTED, answer).prompt_id


def refusal(answer: Answer) -> PromptRefusedError:
    """What ``POST /prompt`` said with 400; UpstreamError when that is not how ComfyUI refuses."""
    said = answer.json()
    problem = _read(_REFUSAL, answer).error
    return refused(problem.message, problem.details, _without_server_paths(said))


def refusal_for_good(answered: UpstreamError) -> InvalidError | None:
    """The error for an answer to ``POST /prompt`` that will be the same another time, else None."""
    status = answered.details.get("status", 0)
    if 400 <= status < 500 and status not in _PASSING:
        return InvalidError("comfyui_refused", answered.message, answered.details)
    return None


def refused(message: str, about: str, details: Mapping[str, Any]) -> PromptRefusedError:
    """The error for a prompt that cannot be queued."""
    text = f"{message}: {about}" if about else message
    return PromptRefusedError("prompt_refused", f"ComfyUI refused the prompt. {text}", details)


def object_info(answer: Answer) -> ObjectInfo:
    """``GET /object_info``."""
    return _read(_CLASSES, answer)


def names(answer: Answer) -> Sequence[str]:
    """``GET /models/{folder}``."""
    return _read(_NAMES, answer)


def system_stats(answer: Answer) -> SystemStats:
    """``GET /system_stats``."""
    system = _read(_STATS, answer).system
    return SystemStats(system.comfyui_version, system.python_version)


def _read(shape: TypeAdapter[T], answer: Answer) -> T:
    try:
        return shape.validate_python(answer.json())
    except ValidationError as error:
        raise answer.unusable("in a shape that is not ComfyUI's") from error


def _without_server_paths(said: dict[str, Any]) -> dict[str, Any]:
    """Validation errors carry tracebacks, which name the server's folders."""
    for node in said.get("node_errors", {}).values():
        for error in node.get("errors", ()) if isinstance(node, dict) else ():
            if isinstance(error, dict) and isinstance(error.get("extra_info"), dict):
                error["extra_info"].pop("traceback", None)
    return {"error": said["error"], "node_errors": said.get("node_errors", {})}

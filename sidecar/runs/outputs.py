"""What ComfyUI's history says a prompt made, of every kind it reports."""

import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ..comfyui import OutputFile
from .models import OutputType, RunError, Status
from .server_paths import without_server_paths

_TYPES = {
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".jxl": "image/jxl",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".mp4": "video/mp4",
    ".flac": "audio/flac",
    ".opus": "audio/ogg",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".glb": "model/gltf-binary",
    ".json": "application/json",
    ".latent": "application/octet-stream",
    ".safetensors": "application/octet-stream",
    ".md": "text/markdown",
    ".yaml": "text/yaml",
}
"""The platform's own table differs from machine to machine for these."""

_FOLDERS = ("output", "temp", "input")

_MESSAGE_LENGTH = 2000


@dataclass(frozen=True)
class Reported:
    """One thing a node reported: a file in one of ComfyUI's folders, or a text."""

    node_id: str
    filename: str
    file: OutputFile | None = None
    text: str | None = None

    @property
    def folder(self) -> str:
        """ComfyUI's name for where it is."""
        return self.file.type if self.file else "text"

    @property
    def is_readable(self) -> bool:
        """False for a file whose name ends the connection on which ComfyUI would send it."""
        return self.file is None or not _has_control(self.file.filename + self.file.subfolder)


def reported_outputs(outputs: Mapping[str, Any]) -> list[Reported]:
    """Everything in a history entry's ``outputs``, each file once, in ComfyUI's order.

    A file is any ``{"filename", "subfolder", "type"}`` under any key: images, gifs, audio, video,
    3d and what packs invent. Strings under ``text`` become text files.
    """
    found: dict[tuple[Any, ...], Reported] = {}
    for node_id, ui in outputs.items():
        if not isinstance(ui, Mapping):
            continue
        for key, values in ui.items():
            for index, value in enumerate(values if isinstance(values, Sequence) else ()):
                for item in _item(str(node_id), str(key), index, value):
                    found.setdefault((item.file, item.text and (item.node_id, index)), item)
    return list(found.values())


def _item(node_id: str, key: str, index: int, value: Any) -> Iterator[Reported]:
    if isinstance(value, Mapping) and isinstance(value.get("filename"), str):
        subfolder = value.get("subfolder")
        folder = value.get("type")
        file = OutputFile(
            value["filename"],
            subfolder if isinstance(subfolder, str) else "",
            folder if folder in _FOLDERS else "output",
        )
        name = PurePosixPath(file.filename.replace("\\", "/")).name or "output"
        yield Reported(node_id, name, file=file)
    elif key == "text" and isinstance(value, str):
        yield Reported(node_id, f"text-{node_id}-{index + 1}.txt", text=value)


def shown(name: str) -> str:
    """A file name as it can be shown to anybody."""
    return "".join("\ufffd" if _is_control(c) else c for c in name)


def _has_control(text: str) -> bool:
    return any(map(_is_control, text))


def _is_control(character: str) -> bool:
    return ord(character) < 32 or ord(character) == 127


def content_type_of(filename: str) -> str:
    """The media type by the name's ending."""
    suffix = PurePosixPath(filename).suffix.lower()
    return _TYPES.get(suffix) or mimetypes.guess_type(filename)[0] or "application/octet-stream"


def type_of(content_type: str) -> OutputType:
    """What that is to a person."""
    major = content_type.partition("/")[0]
    if content_type == "application/json":
        return OutputType.TEXT
    return OutputType(major) if major in ("image", "video", "audio", "text") else OutputType.FILE


def verdict(history: Mapping[str, Any]) -> tuple[Status, RunError | None]:
    """How ComfyUI says a prompt ended. What a node said comes without the server's paths.

    Nobody but the person who works in ComfyUI itself interrupts a run that we did not cancel.
    """
    messages = dict(history["messages"])
    if "execution_interrupted" in messages:
        error = RunError("interrupted", "The run was interrupted in ComfyUI.")
        return Status.CANCELLED, error
    if history["status"] == "success":
        return Status.SUCCEEDED, None
    data = messages.get("execution_error", {})
    kind = str(data.get("exception_type", ""))
    code = "out_of_memory" if "OutOfMemory" in kind else "node_failed"
    said = str(data.get("exception_message") or "ComfyUI reports an error.").strip()
    return Status.FAILED, RunError(
        code,
        without_server_paths(said[: 2 * _MESSAGE_LENGTH])[:_MESSAGE_LENGTH],
        str(data["node_id"]) if "node_id" in data else None,
        {"exception_type": kind, "node_type": str(data.get("node_type", ""))},
    )


def gpu_seconds(history: Mapping[str, Any]) -> float | None:
    """From execution_start to the end, by ComfyUI's own clock (milliseconds since the epoch)."""
    times = [
        data["timestamp"]
        for _, data in history["messages"]
        if isinstance(data.get("timestamp"), int | float)
    ]
    return round((max(times) - min(times)) / 1000, 3) if len(times) > 1 else None

"""The nodes' only way to the sidecar. Blocking: nodes run in ComfyUI's worker thread."""

import http.client
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

HEARTBEAT_SECONDS = 20.0
"""The sidecar says something at least twice a second while it fetches; silence means it hangs."""

RESOLVE_SECONDS = 3.0


class SidecarAwayError(Exception):
    """Nobody there, or nobody who makes sense."""


class RefusedError(Exception):
    """The sidecar said no: ``code`` is stable, ``message`` is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class LoraFile:
    """``path`` is below a LoRA folder of ComfyUI, with ``/``; ``sha256`` None for a shared file."""

    path: str
    sha256: str | None


Progress = Callable[[int, int], None]
"""Called with bytes done and of how many, at least twice a second; may raise to give up."""


def ensure(prompt_id: str | None, lora: str, on_progress: Progress) -> LoraFile:
    """Have the LoRA put on this machine's disk and wait for it. SidecarAwayError, RefusedError."""
    with _Answer("/internal/loras/ensure", prompt_id, lora, HEARTBEAT_SECONDS) as answer:
        while line := answer.line():
            if isinstance(progress := line.get("progress"), dict):
                on_progress(*_bytes_of(progress))
            else:
                return _file_in(line.get("lora"))
    raise SidecarAwayError("the answer ended before the file was there")


def resolve(prompt_id: str | None, lora: str) -> LoraFile:
    """What the name stands for now, without fetching it. SidecarAwayError, RefusedError."""
    with _Answer("/internal/loras/resolve", prompt_id, lora, RESOLVE_SECONDS) as answer:
        return _file_in(answer.line())


class _Answer:
    """One question, and its answer line by line."""

    def __init__(self, path: str, prompt_id: str | None, lora: str, timeout: float) -> None:
        self._connection, prefix = _connect(timeout)
        self._path = prefix + path
        self._question = json.dumps({"prompt_id": prompt_id, "lora": lora})
        self._response: http.client.HTTPResponse

    def __enter__(self) -> "_Answer":
        headers = {
            "Content-Type": "application/json",
            "X-Atelier-Pack": os.environ.get("ATELIER_PACK_TOKEN", ""),
        }
        try:
            self._connection.request("POST", self._path, self._question, headers)
            self._response = self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise SidecarAwayError(str(error)) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()
        self._connection.close()

    def line(self) -> Mapping[str, Any]:
        """The next object, empty at the end. RefusedError for one that is an error."""
        try:
            raw = self._response.readline()
            value = json.loads(raw) if raw else {}
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SidecarAwayError(str(error)) from error
        if not isinstance(value, dict):
            raise SidecarAwayError("the answer is not an object")
        if isinstance(refusal := value.get("error"), dict):
            raise _refusal(self._response.status, refusal)
        return value


def _connect(timeout: float) -> tuple[http.client.HTTPConnection, str]:
    url = urlsplit(os.environ.get("ATELIER_SIDECAR_URL", ""))
    if url.hostname is None:
        raise SidecarAwayError("it is not running")
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    return kind(url.hostname, url.port, timeout=timeout), url.path.rstrip("/")


def _refusal(status: int, error: Mapping[str, Any]) -> Exception:
    code, message = str(error.get("code")), str(error.get("message"))
    # a sidecar that was set up for another pack, or is in trouble itself, decides nothing here
    if status >= 500 or code in ("bad_pack_token", "route_not_found"):
        return SidecarAwayError(message)
    return RefusedError(code, message)


def _bytes_of(progress: Mapping[str, Any]) -> tuple[int, int]:
    return int(progress.get("value", 0)), int(progress.get("max", 0))


def _file_in(value: Any) -> LoraFile:
    if not isinstance(value, dict) or not isinstance(value.get("path"), str):
        raise SidecarAwayError("the answer names no file")
    sha256 = value.get("sha256")
    return LoraFile(value["path"], sha256 if isinstance(sha256, str) else None)

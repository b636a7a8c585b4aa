"""The headers of the tus protocol, version 1.0.0 (https://tus.io/protocols/resumable-upload)."""

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime

from aiohttp import web

from ..errors import InvalidError, MalformedError
from .models import Checksum, Progress

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,checksum,termination,expiration"
ALGORITHMS = {"sha1": "sha1", "sha256": "sha256", "sha512": "sha512", "md5": "md5"}
CONTENT_TYPE = "application/offset+octet-stream"
MOST_LENGTH = 1 << 50


def upload_length(headers: Mapping[str, str]) -> int:
    """``Upload-Length``. InvalidError("invalid_header"); a length that comes later is not known."""
    return _number(headers, "Upload-Length", 1)


def upload_offset(headers: Mapping[str, str]) -> int:
    """``Upload-Offset``. InvalidError("invalid_header")."""
    return _number(headers, "Upload-Offset", 0)


def upload_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    """``Upload-Metadata``: keys with values in Base64, between commas.

    InvalidError("invalid_header") for values that are no UTF-8 or hold a NUL.
    """
    found: dict[str, str] = {}
    for pair in headers.get("Upload-Metadata", "").split(","):
        key, _, value = pair.strip().partition(" ")
        if not key:
            continue
        try:
            text = base64.b64decode(value, validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            raise _invalid("Upload-Metadata", f"{key[:50]!r} is not Base64 of UTF-8") from None
        if key in found or "\0" in text:
            raise _invalid("Upload-Metadata", f"{key[:50]!r} comes twice or holds a NUL")
        found[key] = text
    return found


def upload_checksum(headers: Mapping[str, str]) -> Checksum | None:
    """``Upload-Checksum``. MalformedError("unknown_checksum")."""
    text = headers.get("Upload-Checksum")
    if text is None:
        return None
    algorithm, _, digest = text.partition(" ")
    try:
        return Checksum(ALGORITHMS[algorithm.lower()], base64.b64decode(digest, validate=True))
    except (KeyError, binascii.Error, ValueError):
        known = ", ".join(ALGORITHMS)
        raise MalformedError(
            "unknown_checksum", f"Upload-Checksum is one of {known} with a digest in Base64."
        ) from None


def progress_headers(progress: Progress) -> dict[str, str]:
    """Of an answer about an upload. Its LoRA is named when there is one."""
    upload = progress.upload
    headers = {
        "Upload-Offset": str(progress.offset),
        "Upload-Length": str(upload.length),
        "Upload-Expires": _date(upload.expires_at),
        "Cache-Control": "no-store",
    }
    if upload.lora_id is not None:
        headers |= {"Atelier-Lora-Id": str(upload.lora_id)}
    return headers


def described(largest: int) -> dict[str, str]:
    """What OPTIONS says."""
    return {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(largest),
        "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
    }


def is_spoken(request: web.Request) -> bool:
    """Whether the client speaks our version."""
    return request.headers.get("Tus-Resumable") == VERSION


def _number(headers: Mapping[str, str], name: str, least: int) -> int:
    text = headers.get(name, "")
    if not (text.isascii() and text.isdigit()) or len(text) > 16:
        raise _invalid(name, "expected a whole number")
    if not least <= int(text) <= MOST_LENGTH:
        raise _invalid(name, f"expected {least} to {MOST_LENGTH}")
    return int(text)


def _invalid(name: str, expected: str) -> InvalidError:
    return InvalidError(
        "invalid_header", f"{name} cannot be accepted: {expected}.", {"fields": {name: expected}}
    )


def _date(at: datetime) -> str:
    return format_datetime(at, usegmt=True)

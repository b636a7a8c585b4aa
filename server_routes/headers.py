"""What of a request and its answer may cross between ComfyUI's port and the sidecar."""

import re
from collections.abc import Mapping
from urllib.parse import unquote

from aiohttp import ClientResponse, hdrs, web
from multidict import CIMultiDict

PREFIX = "/api/v1/comfyui/"
PACK_HEADER = "X-Atelier-Pack"

_HOP_BY_HOP = {
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
}
_NOT_THE_CLIENTS = re.compile(
    r"x-atelier-(pack|submission)|x-forwarded-.*|forwarded|x-real-ip", re.IGNORECASE
)
_DECODED = frozenset({"gzip", "deflate", "br", "zstd"})


def upstream_path(raw_path: str) -> str | None:
    """The path to ask the sidecar for, percent-encoding kept; None for one that climbs.

    ``raw_path`` matched the route, so it begins with the prefix, with ``/api`` or without, in any
    encoding. A server behind the sidecar's address may fold ``..``; none may reach past the prefix.
    """
    segments = raw_path.split("/")
    depth = 4 if unquote(segments[1]) == "api" else 3
    tail = "/".join(segments[depth:])
    decoded = tail
    while (once_more := unquote(decoded)) != decoded:
        decoded = once_more
    if any(part in (".", "..") for part in re.split(r"[/\\]", decoded)):
        return None
    return PREFIX + tail


def request_headers(request: web.Request, token: str | None) -> CIMultiDict[str]:
    """The client's headers, without those that are ours to say and those of its own connection.

    The pack token says that what we say of the client can be believed.
    """
    headers = _end_to_end(request.headers)
    for name in [name for name in headers if _NOT_THE_CLIENTS.fullmatch(name)]:
        headers.popall(name, None)
    coding = request.headers.get(hdrs.CONTENT_ENCODING, "").lower()
    # ComfyUI's server unpacks these, and leaves the header as it was
    if coding in _DECODED:
        headers.popall(hdrs.CONTENT_ENCODING, None)
        headers.popall(hdrs.CONTENT_LENGTH, None)
    if not request.body_exists:
        headers.popall(hdrs.CONTENT_LENGTH, None)
    # the sidecar compares Origin with it
    headers[hdrs.HOST] = request.host
    headers["X-Forwarded-For"] = request.remote or ""
    headers["X-Forwarded-Proto"] = request.scheme
    if token is not None:
        headers[PACK_HEADER] = token
    return headers


def answer_headers(upstream: ClientResponse) -> CIMultiDict[str]:
    """The sidecar's headers, without those of its own connection."""
    return _end_to_end(upstream.headers)


def _end_to_end(source: Mapping[str, str]) -> CIMultiDict[str]:
    headers = CIMultiDict(source)
    named = ",".join(headers.getall(hdrs.CONNECTION, [])).split(",")
    for name in {name.strip().lower() for name in named} | _HOP_BY_HOP:
        headers.popall(name, None)
    return headers

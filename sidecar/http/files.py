"""Bytes out: whole or in ranges, with an ETag."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from urllib.parse import quote

from aiohttp import web

from ..errors import RangeError, UpstreamError

Opener = Callable[[int, int], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""Opens ``length`` bytes from ``start``."""


@dataclass(frozen=True)
class Download:
    """What is sent: ``size`` in bytes, ``etag`` without quotes (a content hash)."""

    filename: str
    content_type: str
    size: int
    etag: str
    inline: bool = False


async def send_file(request: web.Request, download: Download, opener: Opener) -> web.StreamResponse:
    """Stream a file that never changes, honouring Range, If-Range, If-None-Match and HEAD."""
    etag = f'"{download.etag}"'
    headers = _headers(download, etag)
    if _has(request, etag):
        kept = {name: headers[name] for name in ("ETag", "Cache-Control")}
        return web.Response(status=304, headers=kept)
    wanted = _wanted(request, download, etag)
    start, stop = wanted or (0, download.size)
    response = web.StreamResponse(status=206 if wanted else 200, headers=headers)
    response.content_length = stop - start
    if wanted:
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{download.size}"
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    sent = 0
    async with opener(start, stop - start) as chunks:
        await response.prepare(request)
        async for chunk in chunks:
            sent += len(chunk)
            await response.write(chunk)
    if sent != stop - start:
        # whatever came next on this connection would be taken for the rest of the file
        raise UpstreamError("blobs", "The stored file is shorter than it was.")
    await response.write_eof()
    return response


def _has(request: web.Request, etag: str) -> bool:
    """Whether the caller has it already. Proxies that compress mark the tag as weak."""
    tags = (tag.strip() for tag in request.headers.get("If-None-Match", "").split(","))
    return any(tag == "*" or tag.removeprefix("W/") == etag for tag in tags)


def _headers(download: Download, etag: str) -> dict[str, str]:
    how = "inline" if download.inline else "attachment"
    return {
        "Content-Type": download.content_type,
        "Content-Disposition": f"{how}; filename*=UTF-8''{quote(download.filename, safe='')}",
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
        # what a run made is somebody's data: never let a browser run it as a page of ours
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
    }


def _wanted(request: web.Request, download: Download, etag: str) -> tuple[int, int] | None:
    """First byte and the one after the last of the range asked for; None for the whole file."""
    if request.method != "GET" or "Range" not in request.headers:
        return None
    if request.headers.get("If-Range", etag) != etag:
        return None
    try:
        asked = request.http_range
    except ValueError:
        return None  # RFC 9110, 14.2: a Range that cannot be read is ignored
    start, stop, _ = slice(asked.start, asked.stop).indices(download.size)
    if start >= stop:
        raise RangeError(
            "range_not_satisfiable",
            f"The file has {download.size} bytes.",
            {"size": download.size},
        )
    return start, stop

"""Resumable uploads over HTTP: the tus protocol, and the same to look at as JSON."""

from collections.abc import AsyncIterator
from functools import wraps

from aiohttp import ClientPayloadError, web
from aiohttp.typedefs import Handler

from ..errors import AtelierError, MalformedError, UnsupportedError
from ..http.bodies import path_id, reply
from ..http.errors import error_body, error_response
from ..http.keys import principal_of, recheck
from ..http.routing import BASE, Access, Route
from . import tus
from .models import UploadList, UploadView
from .service import ChecksumError, UploadService

UPLOADS = web.AppKey("uploads", UploadService)
LARGEST = web.AppKey("largest_upload", int)

_READ_BYTES = 1 << 18
_CHECKSUM_MISMATCH = 460
_HEADERS = (
    ("Tus-Resumable", "1.0.0"),
    ("X-HTTP-Method-Override", "PATCH or DELETE, where a client can send neither"),
)


def _spoken(handler: Handler) -> Handler:
    """Answers in the protocol's own way, refusals too."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            response = await _answered(handler, request)
        except ChecksumError as error:
            body = error_body(error.code, error.message, error.details)
            response = web.json_response(body, status=_CHECKSUM_MISMATCH)
        except AtelierError as error:
            response = error_response(error)
        response.headers["Tus-Resumable"] = tus.VERSION
        return response

    return answer


async def _answered(handler: Handler, request: web.Request) -> web.StreamResponse:
    if "id" in request.match_info:
        path_id(request, "upload")  # what is no id is not there, whatever is said of it
    if request.method not in ("OPTIONS", "GET") and not tus.is_spoken(request):
        body = error_body("tus_version", "Tus-Resumable must be 1.0.0.", {})
        return web.json_response(body, status=412, headers={"Tus-Version": tus.VERSION})
    return await handler(request)


@_spoken
async def options(request: web.Request) -> web.StreamResponse:
    """Say what the server can do."""
    return web.Response(status=204, headers=tus.described(request.app[LARGEST]))


@_spoken
async def create(request: web.Request) -> web.StreamResponse:
    """Begin an upload, perhaps with its first bytes."""
    uploads, principal = request.app[UPLOADS], principal_of(request)
    metadata = tus.upload_metadata(request.headers)
    checksum = tus.upload_checksum(request.headers)
    progress = await uploads.create(principal, tus.upload_length(request.headers), metadata)
    location = f"{BASE}/uploads/{progress.upload.id}"
    if request.content_type == tus.CONTENT_TYPE and request.body_exists:
        progress = await uploads.append(
            principal, progress.upload.id, 0, _chunks(request), checksum
        )
    headers = tus.progress_headers(progress) | {"Location": location}
    return web.Response(status=201, headers=headers)


async def page(request: web.Request) -> web.StreamResponse:
    """List uploads."""
    found = await request.app[UPLOADS].all(principal_of(request))
    return reply(UploadList(items=[UploadView.of(each) for each in found]))


@_spoken
async def show(request: web.Request) -> web.StreamResponse:
    """Show an upload; HEAD says in the protocol's headers where to go on."""
    uploads, principal = request.app[UPLOADS], principal_of(request)
    upload_id = path_id(request, "upload")
    if request.method == "HEAD":
        progress = await uploads.settled(principal, upload_id)
        return web.Response(headers=tus.progress_headers(progress))
    return reply(UploadView.of(await uploads.get(principal, upload_id)))


@_spoken
async def append(request: web.Request) -> web.StreamResponse:
    """Take bytes."""
    uploads, principal = request.app[UPLOADS], principal_of(request)
    upload_id = path_id(request, "upload")
    if request.content_type != tus.CONTENT_TYPE:
        raise UnsupportedError("wrong_content_type", f"Content-Type must be {tus.CONTENT_TYPE}.")
    offset, checksum = tus.upload_offset(request.headers), tus.upload_checksum(request.headers)
    progress = await uploads.append(principal, upload_id, offset, _chunks(request), checksum)
    return web.Response(status=204, headers=tus.progress_headers(progress))


@_spoken
async def delete(request: web.Request) -> web.StreamResponse:
    """Forget an upload."""
    await request.app[UPLOADS].delete(principal_of(request), path_id(request, "upload"))
    return web.Response(status=204)


async def override(request: web.Request) -> web.StreamResponse:
    """PATCH or DELETE for clients that can send neither."""
    meant = request.headers.get("X-HTTP-Method-Override", "").upper()
    handlers = {"PATCH": append, "DELETE": delete}
    if meant not in handlers:
        raise MalformedError("unknown_method", "X-HTTP-Method-Override is PATCH or DELETE.")
    return await handlers[meant](request)


async def _chunks(request: web.Request) -> AsyncIterator[bytes]:
    """The body; who was shut out while it came shall not finish what was begun."""
    try:
        async for chunk in request.content.iter_chunked(_READ_BYTES):
            yield chunk
    except (ClientPayloadError, web.RequestPayloadError, ConnectionError):
        raise MalformedError("broken_body", "The body ended before its end.") from None
    await recheck(request)


ROUTES: tuple[Route, ...] = (
    Route(
        "OPTIONS",
        "/uploads",
        options,
        "What this server can do of the tus protocol",
        status=204,
        access=Access.OPEN,
    ),
    Route(
        "POST",
        "/uploads",
        create,
        "Begin a resumable upload (tus 1.0): any tus client works",
        headers=(
            *_HEADERS[:1],
            ("Upload-Length", "The file's size in bytes."),
            (
                "Upload-Metadata",
                "filename, name, description, tags, and lora_id for a further version of a LoRA; "
                "values in Base64.",
            ),
        ),
        status=201,
        content_type="text/plain",
        errors=(404, 409, 412, 413, 415, 429, 503, 507),
        scope="loras:write",
    ),
    Route(
        "GET",
        "/uploads",
        page,
        "List uploads that have not expired",
        answer=UploadList,
        scope="loras:write",
    ),
    Route(
        "GET",
        "/uploads/{id}",
        show,
        "Show an upload; HEAD says where to go on",
        answer=UploadView,
        errors=(404, 409, 412, 503),
        scope="loras:write",
    ),
    Route(
        "PATCH",
        "/uploads/{id}",
        append,
        "Send bytes; with the last one the LoRA is made, and Atelier-Lora-Id names it",
        headers=(
            *_HEADERS[:1],
            ("Upload-Offset", "How many bytes are there already."),
            ("Upload-Checksum", "sha1, sha256, sha512 or md5, and a digest in Base64."),
        ),
        status=204,
        errors=(404, 409, 412, 413, 415, 503, 507),
        scope="loras:write",
    ),
    Route(
        "POST",
        "/uploads/{id}",
        override,
        "PATCH or DELETE, for clients that can send neither",
        headers=_HEADERS,
        status=204,
        errors=(404, 409, 412, 413, 415, 503, 507),
        scope="loras:write",
    ),
    Route(
        "DELETE",
        "/uploads/{id}",
        delete,
        "Forget an upload and its bytes; the LoRA that it became stays",
        headers=_HEADERS[:1],
        status=204,
        errors=(404, 409, 412, 503),
        scope="loras:write",
    ),
)

"""A multipart body as a stream of parts, never held in memory."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from aiohttp import BodyPartReader, ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError

from ..errors import MalformedError, TooLargeError
from .uploads import FilePart, TextPart, UploadParts

MAX_FIELD_BYTES = 64 << 10
MAX_PARTS = 20
FILE_FIELD = "file"
_READ_BYTES = 1 << 18
# Besides the file: boundaries, part headers and the other fields.
OVERHEAD_BYTES = 2 << 20


async def upload_parts(request: web.Request) -> UploadParts:
    """Read the parts in the order they come; the one called ``file`` is the file.

    MalformedError("not_multipart") when the body cannot be read as a form or ends too early,
    TooLargeError("field_too_large").
    """
    if request.content_type != "multipart/form-data":
        raise _malformed("The body must be multipart/form-data.")
    with _readable():
        reader = await request.multipart()
    for _ in range(MAX_PARTS):
        with _readable():
            part = await reader.next()
        if part is None:
            return
        if not isinstance(part, BodyPartReader) or part.name is None:
            raise _malformed("A part of the form has no name.")
        if part.name == FILE_FIELD:
            yield FilePart(_filename(part), _chunks(part))
        else:
            yield TextPart(part.name, await _text(part, part.name))
    raise _malformed(f"A form may have {MAX_PARTS} parts.")


async def _chunks(part: BodyPartReader) -> AsyncIterator[bytes]:
    while True:
        with _readable():
            chunk = await part.read_chunk(_READ_BYTES)
        if not chunk:
            return
        yield bytes(chunk)


async def _text(part: BodyPartReader, name: str) -> str:
    raw = bytearray()
    async for chunk in _chunks(part):
        raw += chunk
        if len(raw) > MAX_FIELD_BYTES:
            raise TooLargeError(
                "field_too_large",
                f"The field '{name[:50]}' may have {MAX_FIELD_BYTES} bytes.",
                {"field": name[:50], "max_bytes": MAX_FIELD_BYTES},
            )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed(f"The field '{name[:50]}' is not UTF-8.") from None


def _filename(part: BodyPartReader) -> str | None:
    with _readable():  # read only now, from parameters that may be broken
        name = part.filename
    return None if name is None else name.encode("utf-8", "replace").decode("utf-8")


@contextmanager
def _readable() -> Iterator[None]:
    """What aiohttp raises for a form that it cannot read, or that a client stopped sending."""
    try:
        yield
    except (HttpProcessingError, ValueError, AssertionError, RuntimeError, LookupError):
        raise _malformed("The form cannot be read.") from None
    except (ClientPayloadError, web.RequestPayloadError, ConnectionError):
        raise _malformed("The form ended before its end.") from None


def _malformed(message: str) -> MalformedError:
    return MalformedError("not_multipart", message)

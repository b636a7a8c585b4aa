"""The safetensors format, checked while the bytes arrive. Nothing is loaded, no code is run.

A file is 8 bytes of little-endian header length, a JSON header, then the tensors' bytes
(https://github.com/huggingface/safetensors#format). Duplicate keys, unknown fields and files
without tensors, which the reference library lets pass, are refused too.
"""

import hashlib
import json
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from ..durable import alongside, in_thread
from ..errors import TooLargeError, UnsupportedError

# The format allows 100 MB of header. 60 MB cost 280 MB of memory, 400,000 tensors 2.3 seconds.
MAX_HEADER_BYTES = 16 << 20
MAX_TENSORS = 20_000
MAX_DIMENSIONS = 16
MAX_DIMENSION = 2**53

DTYPE_BITS: Mapping[str, int] = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL"), 8),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}


@dataclass(frozen=True)
class Header:
    """What a file says about itself.

    ``metadata`` is untrusted text, ``shapes`` maps tensor names to their dimensions, ``file_size``
    is the size in bytes that the whole file must have.
    """

    metadata: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    file_size: int


@dataclass(frozen=True)
class CheckedFile:
    """A whole, valid file: size in bytes; sha256 of all of it and AutoV3 (first 12 digits of the
    sha256 of the tensors' bytes, so that editing metadata keeps it), in lower-case hex."""

    header: Header
    size: int
    sha256: str
    autov3: str


def auto_v2(sha256: str) -> str:
    """AutoV2, which people search models by."""
    return sha256[:10]


class SafetensorsStream:
    """A file's bytes, passed on while they are hashed and checked. Read it once, to its end.

    UnsupportedError("not_safetensors") as soon as the bytes show it: for a bad header before any
    byte is passed on. TooLargeError("lora_too_large") as soon as the header promises too much.
    """

    def __init__(self, chunks: AsyncIterator[bytes], max_bytes: int) -> None:
        self._chunks = chunks
        self._max_bytes = max_bytes
        self._file: CheckedFile | None = None

    @property
    def file(self) -> CheckedFile:
        """What has passed, when all of it has."""
        if self._file is None:
            raise RuntimeError("the stream was not read to its end")
        return self._file

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        """Every byte."""
        head, start = await _read_head(self._chunks)
        header = await in_thread(parse_header, head[8:])
        if header.file_size > self._max_bytes:
            raise TooLargeError(
                "lora_too_large",
                f"The file has {header.file_size} bytes; {self._max_bytes} are allowed.",
                {"max_bytes": self._max_bytes},
            )
        whole, body = hashlib.sha256(head), hashlib.sha256()
        yield head
        size = len(head)
        tensors = _up_to(header.file_size - size, start, self._chunks)
        async with aclosing(alongside(tensors, whole.update, body.update)) as passed:
            async for chunk in passed:
                size += len(chunk)
                yield chunk
        if size != header.file_size:
            raise _refusal(f"it ends after {size} bytes, its header describes {header.file_size}")
        self._file = CheckedFile(header, size, whole.hexdigest(), body.hexdigest()[:12])


class HeadCheck:
    """Looks at the first bytes of a file that shall have ``length`` bytes, as they come."""

    most = 8 + MAX_HEADER_BYTES
    """So many of them at most tell everything."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._seen = bytearray()
        self._is_done = False
        self.has_failed = False

    async def feed(self, chunk: bytes) -> None:
        """Take the next bytes. UnsupportedError("not_safetensors") as soon as they show it."""
        if self._is_done:
            return
        self._seen += chunk
        if len(self._seen) < 8:
            return
        try:
            end = 8 + _header_length(bytes(self._seen[:8]))
            if len(self._seen) < end:
                return
            self._is_done = True
            header = await in_thread(parse_header, bytes(self._seen[8:end]))
            if header.file_size != self._length:
                raise _refusal(
                    f"its header describes {header.file_size} bytes, {self._length} are announced"
                )
        except UnsupportedError:
            self.has_failed = True
            raise
        self._seen.clear()


async def check(chunks: AsyncIterator[bytes], max_bytes: int) -> CheckedFile:
    """Read a file that is stored nowhere yet; raises what SafetensorsStream raises."""
    stream = SafetensorsStream(chunks, max_bytes)
    async for _ in stream:
        pass
    return stream.file


def parse_header(raw: bytes) -> Header:
    """Read the JSON header. UnsupportedError("not_safetensors") says what is wrong with it."""
    if raw[:1] != b"{":
        raise _refusal("its header does not start with {")
    try:
        entries = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
        metadata = entries.pop("__metadata__", {})
        for text in (*entries, *_texts(metadata)):
            text.encode("utf-8")  # half a surrogate pair passes the parser, and no database
    except (ValueError, RecursionError) as error:
        raise _refusal(f"its header is not valid JSON ({type(error).__name__})") from None
    if not 1 <= len(entries) <= MAX_TENSORS:
        raise _refusal(f"it has {len(entries)} tensors; allowed are 1 to {MAX_TENSORS}")
    position = 0
    for begin, end, name in sorted(_span(name, entry) for name, entry in entries.items()):
        if begin != position:
            raise _refusal(f"hole or overlap before tensor {name[:40]!r}")
        position = end
    shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
    return Header(metadata, shapes, 8 + len(raw) + position)


def _refusal(reason: str) -> UnsupportedError:
    return UnsupportedError(
        "not_safetensors", f"This is not a usable safetensors file: {reason}.", {"reason": reason}
    )


async def _read_head(chunks: AsyncIterator[bytes]) -> tuple[bytes, bytes]:
    """The first 8 bytes with the header, and what came along after it."""
    seen = bytearray()
    need = 8
    async for chunk in chunks:
        seen += chunk
        if need == 8 and len(seen) >= 8:
            need = 8 + _header_length(bytes(seen[:8]))
        if need > 8 and len(seen) >= need:
            return bytes(seen[:need]), bytes(seen[need:])
    raise _refusal("it ends inside its header")


def _header_length(first: bytes) -> int:
    length: int = struct.unpack("<Q", first)[0]
    if length > MAX_HEADER_BYTES:
        looks = ""
        if first.startswith(b"PK"):
            looks = " (it looks like a zip or PyTorch file)"
        elif first.startswith(b"\x80"):
            looks = " (it looks like a pickle)"
        raise _refusal(f"a header of {length} bytes exceeds {MAX_HEADER_BYTES}{looks}")
    if length < 2:
        raise _refusal("its header is too short")
    return length


async def _up_to(limit: int, start: bytes, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    seen = len(start)
    if seen:
        yield start
    if seen > limit:
        raise _refusal("there are bytes after the last tensor")
    async for chunk in chunks:
        seen += len(chunk)
        if seen > limit:
            raise _refusal("there are bytes after the last tensor")
        yield chunk


def _texts(metadata: Any) -> list[str]:
    if not isinstance(metadata, dict):
        raise _refusal("__metadata__ must map text to text")
    texts = [*metadata, *metadata.values()]
    if not all(isinstance(text, str) for text in texts):
        raise _refusal("__metadata__ must map text to text")
    return texts


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for key, value in pairs:
        if key in entries:
            raise _refusal(f"duplicate key {key[:40]!r}")
        entries[key] = value
    return entries


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _span(name: str, entry: Any) -> tuple[int, int, str]:
    """Check one tensor's entry: where it begins and ends, in bytes after the header."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _refusal(f"malformed entry for tensor {name[:40]!r}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    bits = DTYPE_BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None:
        raise _refusal(f"unknown type {str(dtype)[:20]!r} of tensor {name[:40]!r}")
    if not _whole_numbers(shape, MAX_DIMENSION) or len(shape) > MAX_DIMENSIONS:
        raise _refusal(f"bad shape of tensor {name[:40]!r}")
    if not _whole_numbers(offsets, 2**63) or len(offsets) != 2:
        raise _refusal(f"bad offsets of tensor {name[:40]!r}")
    for dimension in shape:
        bits *= dimension
    if bits % 8 or offsets[1] - offsets[0] != bits // 8:
        raise _refusal(f"the size of tensor {name[:40]!r} does not match its shape")
    return offsets[0], offsets[1], name


def _whole_numbers(values: Any, most: int) -> bool:
    """type(), not isinstance(): True is an int, and 1.0 must not pass."""
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value <= most for value in values
    )

"""Safetensors files: small valid ones, each different, and every hostile kind."""

import io
import json
import pickle
import random
import struct
import zipfile
from collections.abc import Mapping
from typing import Any


def pack(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A file of a header (an object, or raw bytes) and data; ``length`` lies about the header."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def tensor(begin: int, end: int, shape: Any = None, dtype: Any = "F32") -> dict[str, Any]:
    """An entry of the header; by default four floats."""
    return {"dtype": dtype, "shape": [4] if shape is None else shape, "data_offsets": [begin, end]}


def lora_bytes(
    seed: int = 0, *, size: int = 4096, rank: int = 4, metadata: Mapping[str, str] | None = None
) -> bytes:
    """A valid LoRA whose tensors hold about ``size`` bytes; another seed, other bytes."""
    columns = max(size // (2 * rank), 1)
    data = random.Random(seed).randbytes(columns * 2 * rank)  # noqa: S311 - not a secret
    down = tensor(0, len(data), [rank, columns], "F16")
    header: dict[str, Any] = {"lora_unet_a.lora_down.weight": down}
    if metadata is not None:
        header["__metadata__"] = dict(metadata)
    return pack(header, data)


_ONE = b'"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}'


def _zip() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("archive/data.pkl", pickle.dumps({"a": 1}))
    return archive.getvalue()


HOSTILE: Mapping[str, bytes] = {
    "empty file": b"",
    "seven bytes": b"1234567",
    "huge length": pack(b"{}", length=2**63),
    "length past the end": pack(b"{}", length=50),
    "length of one": pack(b"{", length=1),
    "no tensors": pack({}),
    "overlap": pack({"a": tensor(0, 16), "b": tensor(8, 24)}, bytes(24)),
    "hole": pack({"a": tensor(0, 16), "b": tensor(32, 48)}, bytes(48)),
    "hole at the start": pack({"a": tensor(16, 32)}, bytes(32)),
    "trailing bytes": pack({"a": tensor(0, 16)}, bytes(16) + b"PK\x03\x04"),
    "truncated data": pack({"a": tensor(0, 16)}, bytes(8)),
    "size mismatch": pack({"a": tensor(0, 12)}, bytes(12)),
    "overflowing shape": pack({"a": tensor(0, 16, [2**62, 2**62])}, bytes(16)),
    "negative offset": pack({"a": tensor(-4, 12)}, bytes(12)),
    "boolean dimension": pack({"a": tensor(0, 4, [True])}, bytes(4)),
    "float dimension": pack({"a": tensor(0, 16, [4.0])}, bytes(16)),
    "half a byte": pack({"a": tensor(0, 1, [1], "F4")}, bytes(1)),
    "unknown type": pack({"a": tensor(0, 16, [4], "PICKLE")}, bytes(16)),
    "type is no text": pack({"a": tensor(0, 16, [4], [])}, bytes(16)),
    "extra field": pack({"a": {**tensor(0, 16), "x": 1}}, bytes(16)),
    "entry is no object": pack({"a": 1}),
    "shape is no list": pack({"a": tensor(0, 16, {"x": 4})}, bytes(16)),
    "offsets are no list": pack(
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": 16}}, bytes(16)
    ),
    "metadata is no object": pack({"__metadata__": 1, "a": tensor(0, 16)}, bytes(16)),
    "metadata is no text": pack({"__metadata__": {"x": {}}, "a": tensor(0, 16)}, bytes(16)),
    "deep nesting": pack(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    "a list": pack(b"[]      "),
    "not UTF-8": pack(b'{"\xff":1}'),
    "NaN": pack(b'{"a":NaN}'),
    "endless number": pack(b'{"a":' + b"1" * 10_000 + b"}"),
    "half a surrogate in a name": pack(b'{"\\ud800":' + _ONE[4:] + b"}", bytes(16)),
    "half a surrogate in metadata": pack(
        b'{"__metadata__":{"k":"\\ud800"},' + _ONE + b"}", bytes(16)
    ),
    "pickle": b"\x80\x02" + pickle.dumps({"a": 1}) + bytes(100),
    "zip": _zip(),
    "duplicate tensor": pack(b"{" + _ONE + b"," + _ONE + b"}", bytes(16)),
    "duplicate metadata": pack(b'{"__metadata__":{"k":"1","k":"2"},' + _ONE + b"}", bytes(16)),
    "too many tensors": pack(
        {f"t{n}": tensor(4 * n, 4 * n + 4, [1]) for n in range(20_001)}, bytes(80_004)
    ),
    "web page": b"<!DOCTYPE html><html><body>Virus scan warning</body></html>" + bytes(100),
}
"""Files that must be refused, by what is wrong with them."""

UNUSUAL: Mapping[str, bytes] = {
    "order of names": pack({"b": tensor(0, 16), "a": tensor(16, 32)}, bytes(32)),
    "padded header": pack(json.dumps({"a": tensor(0, 16)}).encode() + b"   ", bytes(16)),
    "scalar and empty": pack({"s": tensor(0, 4, []), "e": tensor(4, 4, [0, 7])}, bytes(4)),
    "four bits": pack({"a": tensor(0, 2, [4], "F4")}, bytes(2)),
    "metadata with NUL": pack(
        {"__metadata__": {"ss_output_name": "\u00fc\u0000x"}, "a": tensor(0, 16)}, bytes(16)
    ),
}
"""Files that are valid all the same."""


def padded(file: bytes, size: int) -> bytes:
    """The same weights, and a tensor that no model has: about ``size`` bytes in all."""
    length = int.from_bytes(file[:8], "little")
    header, weights = json.loads(file[8 : 8 + length]), file[8 + length :]
    more = max(size - len(file), 1)
    header["padding"] = tensor(len(weights), len(weights) + more, [more], "U8")
    return pack(header, weights + random.Random(size).randbytes(more))  # noqa: S311 - no secret

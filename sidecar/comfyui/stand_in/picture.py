"""A pattern drawn from a digest, as PNG, with nothing but zlib. The same on every machine."""

import struct
import zlib
from collections.abc import Iterator, Mapping

MAX_CELLS = 128
"""Cells a side: a bigger picture has bigger cells, so that drawing stays quick."""


def png(width: int, height: int, digest: bytes, texts: Mapping[str, str]) -> bytes:
    """A PNG of ``width`` x ``height`` pixels with a text chunk for each of ``texts``."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [_chunk(b"IHDR", header)]
    chunks += [_text(name, text) for name, text in texts.items()]
    packer = zlib.compressobj(6)
    body = b"".join(packer.compress(b"\0" + row) for row in _rows(width, height, digest))
    chunks += [_chunk(b"IDAT", body + packer.flush()), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _rows(width: int, height: int, digest: bytes) -> Iterator[bytes]:
    """RGB rows: for each colour two triangle waves, one along each side, mixed."""
    cell = -(-max(width, height) // MAX_CELLS)
    columns, lines = -(-width // cell), -(-height // cell)
    across, down = [], []
    for colour in range(3):
        first, second, third, fourth = digest[colour * 8 : colour * 8 + 4]
        across.append([_wave(x * (3 + first % 13) + second) for x in range(columns)])
        down.append([_wave(y * (3 + third % 13) + fourth) for y in range(lines)])
    for line in range(lines):
        cells = (
            bytes(
                (across[c][x] + down[c][line] + (across[c][x] * down[c][line] >> 8)) % 256
                for c in range(3)
            )
            * cell
            for x in range(columns)
        )
        row = b"".join(cells)[: width * 3]
        for _ in range(min(cell, height - line * cell)):
            yield row


def _wave(step: int) -> int:
    """0 up to 127 and back, with a period of 256."""
    return min(step % 256, 255 - step % 256)


def _text(name: str, text: str) -> bytes:
    try:
        return _chunk(b"tEXt", name.encode("latin-1") + b"\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        return _chunk(b"iTXt", name.encode("latin-1", "replace") + b"\0\0\0\0\0" + text.encode())


def _chunk(kind: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

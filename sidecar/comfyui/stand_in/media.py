"""Small files of the kinds that savers write: real containers with next to nothing in them."""

import struct

# one transparent pixel, lossless
_PIXEL = bytes.fromhex("2f00000010071011118888fe0700")


def animated_webp(count: int, fps: float, about: bytes) -> bytes:
    """An animation of ``count`` one-pixel frames, with ``about`` as its EXIF."""
    duration = min(int(1000 / fps), (1 << 24) - 1)
    frame = _riff(b"VP8L", _PIXEL)
    # offset, size less one and duration are three bytes each; then the flags
    head = bytes(12) + struct.pack("<I", duration)[:3] + b"\0"
    frames = b"".join(_riff(b"ANMF", head + frame) for _ in range(count))
    has_exif_alpha_animation = 0x08 | 0x10 | 0x02
    extended = _riff(b"VP8X", struct.pack("<I", has_exif_alpha_animation) + bytes(6))
    loop = _riff(b"ANIM", bytes(6))
    return _riff(b"RIFF", b"WEBP" + extended + loop + frames + _riff(b"EXIF", about))


def flac(sample_rate: int, channels: int, about: bytes) -> bytes:
    """A FLAC stream without samples, with ``about`` as its application block."""
    packed = (sample_rate << 44) | ((channels - 1) << 41) | (15 << 36)
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    note = b"Atel" + about
    return b"fLaC" + _flac_block(0, info) + _flac_block(0x80 | 2, note)


def mp4(about: bytes) -> bytes:
    """An MP4 file without tracks, with ``about`` in a free box."""
    kind = _box(b"ftyp", b"isom" + struct.pack(">I", 512) + b"isommp41")
    return kind + _box(b"free", about) + _box(b"mdat", b"")


def _riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def _flac_block(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + kind + body

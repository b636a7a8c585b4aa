"""The check of a file while it arrives."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest
import safetensors
from safetensors_files import HOSTILE, UNUSUAL, lora_bytes, pack, tensor

from sidecar.errors import TooLargeError, UnsupportedError
from sidecar.loras.safetensors import CheckedFile, SafetensorsStream, auto_v2, check

LIMIT = 1 << 30
BEYOND_THE_REFERENCE = {"no tensors", "extra field", "duplicate tensor", "duplicate metadata"}


async def in_steps(data: bytes, step: int) -> AsyncIterator[bytes]:
    for offset in range(0, len(data), step):
        yield data[offset : offset + step]


async def checked(data: bytes, step: int = 1 << 16, limit: int = LIMIT) -> CheckedFile:
    return await check(in_steps(data, step), limit)


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_file_is_refused_in_chunks_of_any_size(name: str) -> None:
    for step in (7, 1 << 20) if len(HOSTILE[name]) < 5000 else (4096, 1 << 20):
        with pytest.raises(UnsupportedError) as caught:
            await checked(HOSTILE[name], step)
        assert caught.value.code == "not_safetensors"


@pytest.mark.parametrize("name", UNUSUAL)
async def test_an_unusual_but_valid_file_is_accepted(name: str) -> None:
    for step in (1, 7, 1 << 20):
        assert (await checked(UNUSUAL[name], step)).size == len(UNUSUAL[name])


@pytest.mark.parametrize("name", sorted({*HOSTILE, *UNUSUAL} - BEYOND_THE_REFERENCE))
def test_the_reference_library_agrees(name: str) -> None:
    if name in UNUSUAL:
        safetensors.deserialize(UNUSUAL[name])
    elif name != "too many tensors":  # our own limit
        with pytest.raises(safetensors.SafetensorError):
            safetensors.deserialize(HOSTILE[name])


@pytest.mark.parametrize(("name", "word"), [("pickle", "pickle"), ("zip", "PyTorch")])
async def test_a_pickle_is_called_one(name: str, word: str) -> None:
    with pytest.raises(UnsupportedError, match=word):
        await checked(HOSTILE[name])


@pytest.mark.parametrize("step", [1000, 1 << 20, 5 << 20])
async def test_the_hashes_are_those_of_the_bytes_passed_on(step: int) -> None:
    data = lora_bytes(size=3 << 20)
    stream = SafetensorsStream(in_steps(data, step), LIMIT)
    passed = [chunk async for chunk in stream]
    file = stream.file
    body = data[8 + int.from_bytes(data[:8], "little") :]
    assert b"".join(passed) == data
    assert file.sha256 == hashlib.sha256(data).hexdigest()
    assert auto_v2(file.sha256) == file.sha256[:10]
    assert file.autov3 == hashlib.sha256(body).hexdigest()[:12]


async def test_editing_metadata_keeps_autov3() -> None:
    plain = await checked(lora_bytes())
    edited = await checked(lora_bytes(metadata={"ss_output_name": "x"}))
    assert plain.autov3 == edited.autov3
    assert plain.sha256 != edited.sha256


async def test_a_bad_header_is_refused_before_any_tensor_arrives() -> None:
    async def stalls(data: bytes) -> AsyncIterator[bytes]:
        yield data
        await asyncio.Event().wait()

    overlapping = HOSTILE["overlap"][:-24]
    with pytest.raises(UnsupportedError, match="overlap"):
        await check(stalls(overlapping), LIMIT)
    with pytest.raises(UnsupportedError, match="pickle"):
        await check(stalls(HOSTILE["pickle"][:8]), LIMIT)


async def test_a_file_over_the_limit_is_refused_by_its_header() -> None:
    header_alone = pack({"a": tensor(0, 4 << 30, [1 << 30])})
    with pytest.raises(TooLargeError) as caught:
        await checked(header_alone)
    assert caught.value.details == {"max_bytes": LIMIT}

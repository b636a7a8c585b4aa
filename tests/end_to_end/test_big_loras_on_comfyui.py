"""A big LoRA through ComfyUI's own port onto S3 and into a picture, whatever breaks on the way."""

import asyncio
import hashlib
import os
import signal
import sys
from pathlib import Path

import pytest
from cutting_proxy import CuttingProxy
from pack_in_comfyui import (
    API,
    ComfyUIsWithPack,
    ask,
    drawing,
    ended,
    pixels,
    sidecar_pid,
    upload,
    wait_for_sidecar,
)
from s3_server import S3Server
from safetensors_files import padded
from tusclient.client import TusClient

pytestmark = [
    pytest.mark.comfyui,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform != "linux", reason="finds the sidecar in /proc"),
]

SIZE = 24 << 20
CHUNK = 2 << 20


async def test_a_stock_client_uploads_through_cuts_and_a_kill_and_the_lora_draws(
    start_with_pack: ComfyUIsWithPack,
    tiny_models: Path,
    s3_server: S3Server,
    bucket: str,
    tmp_path: Path,
) -> None:
    weights = (tiny_models / "loras" / "lora-a.safetensors").read_bytes()
    file = tmp_path / "big.safetensors"
    file.write_bytes(padded(weights, SIZE))
    server = await asyncio.to_thread(start_with_pack, **s3_server.settings(bucket))
    await asyncio.to_thread(wait_for_sidecar, server)

    proxy = CuttingProxy(int(server.url.rpartition(":")[2]))
    async with proxy.serving() as through:
        with file.open("rb") as stream:
            uploader = TusClient(f"{through}{API}/uploads").uploader(
                file_stream=stream, chunk_size=CHUNK, retries=50, retry_delay=1,
                metadata={"filename": file.name},
            )  # fmt: skip
            proxy.cuts = [-(CHUNK // 2 + n * 60_000) for n in range(5)]
            await asyncio.to_thread(uploader.upload, SIZE // 2)
            os.kill(sidecar_pid(server), signal.SIGKILL)
            await asyncio.to_thread(wait_for_sidecar, server)
            proxy.cuts = [-(CHUNK // 2 + n * 60_000) for n in range(5)]
            await asyncio.to_thread(uploader.upload)
    assert proxy.broken == 10

    def draw_with(name: str) -> bytes:
        prompt = {"workflow_json": drawing("LoraLoader", name)}
        status, accepted = ask(server, "POST", f"{API}/runs", prompt)
        assert status == 202, accepted
        return pixels(server, ended(server, accepted["id"]))

    def look() -> None:
        _, loras = ask(server, "GET", f"{API}/loras")
        (lora,) = loras["items"]
        assert lora["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        upload(server, "/loras", weights, name="small")
        assert draw_with("big") == draw_with("small")

    await asyncio.to_thread(look)
    stored = {each.object_name for each in s3_server.client().list_objects(bucket, recursive=True)}
    assert len([key for key in stored if "/loras/" in str(key)]) == 2
    assert [key for key in stored if "/runs/" in str(key)]

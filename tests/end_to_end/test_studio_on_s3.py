"""A studio whose files are in a bucket: the main job, downloads by link, a store in trouble."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from s3_server import S3Server
from studio import Studio, drawing, lora_file, settings_for, stand_in_at, studio

pytestmark = pytest.mark.timeout(120)

DATA = lora_file(1)


def settings(folder: Path, url: str, server: S3Server, bucket: str, **changes: Any) -> Any:
    return settings_for(folder, url, **server.settings(bucket), **changes)


@pytest.fixture
async def on_s3(s3_server: S3Server, bucket: str, tmp_path: Path) -> AsyncIterator[Studio]:
    async with (
        stand_in_at(tmp_path) as (_, url),
        studio(settings(tmp_path, url, s3_server, bucket)) as client,
    ):
        yield client


async def test_a_lora_in_a_bucket_draws_and_its_picture_is_kept_there(
    on_s3: Studio, s3_server: S3Server, bucket: str
) -> None:
    lora = await on_s3.upload("style.safetensors", DATA)
    run = await on_s3.until((await on_s3.run(drawing(1, "style")))["id"])
    assert run["status"] == "succeeded", run
    assert await on_s3.picture(run)
    keys = [
        str(each.object_name)
        for each in s3_server.client().list_objects(bucket, recursive=True)
        if not str(each.object_name).startswith(".")
    ]
    assert sorted(key.split("/")[1] for key in keys) == ["loras", "runs"]
    async with on_s3.session.get(on_s3.api + f"/loras/{lora['id']}/file") as answer:
        assert hashlib.sha256(await answer.read()).hexdigest() == lora["sha256"]


async def test_a_download_is_sent_to_where_browsers_reach_the_store(
    s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    async with stand_in_at(tmp_path) as (_, url):
        public = settings(tmp_path, url, s3_server, bucket, MINIO_PUBLIC_ENDPOINT=s3_server.url)
        async with studio(public) as client:
            lora = await client.upload("style.safetensors", DATA)
            path = client.api + f"/loras/{lora['id']}/file"
            async with client.session.get(path, allow_redirects=False) as answer:
                assert answer.status == 307
                link = answer.headers["Location"]
            assert s3_server.secret_key not in link
            async with client.session.get(path) as followed:
                assert await followed.read() == DATA
                assert "style.safetensors" in followed.headers["Content-Disposition"]


async def test_a_store_that_is_away_at_the_start_keeps_nothing_else_from_working(
    s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    async with stand_in_at(tmp_path) as (_, url):
        nowhere = f"http://127.0.0.1:{free_port()}"
        away = settings_for(
            tmp_path, url, **{**s3_server.settings(bucket), "MINIO_ENDPOINT": nowhere}
        )
        async with studio(away) as client:
            status, body = await client.ask("GET", "//ready")
            assert (status, body["error"]["details"]["system"]) == (503, "blobs")
            assert await client.save(drawing())
            assert (await client.ask("GET", "/loras"))[0] == 200


async def test_a_broken_object_fails_its_run_and_uploading_again_mends_it(
    on_s3: Studio, s3_server: S3Server, bucket: str
) -> None:
    await on_s3.upload("style.safetensors", DATA)
    (key,) = [
        str(each.object_name)
        for each in s3_server.client().list_objects(bucket, recursive=True)
        if "/loras/" in str(each.object_name)
    ]
    s3_server.client()._put_object(bucket, key, DATA[:-1] + b"?")
    run = await on_s3.until((await on_s3.run(drawing(1, "style")))["id"])
    assert (run["status"], run["error"]["code"]) == ("failed", "blobs_failed")
    _, loras = await on_s3.ask("GET", "/loras")
    assert loras["items"][0]["state"] == "damaged"
    order = {"workflow_json": drawing(1, "style")}
    status, refused = await on_s3.ask("POST", "/runs", json=order)
    assert (status, refused["error"]["code"]) == (422, "lora_damaged")
    await on_s3.upload("style.safetensors", DATA)
    run = await on_s3.until((await on_s3.run(drawing(1, "style")))["id"])
    assert run["status"] == "succeeded"

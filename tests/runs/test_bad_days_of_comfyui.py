"""ComfyUI absent, slow, silent, failing, dying and forgetful: every run still ends, once."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from studio import Studio, drawing, lora_file, settings_for, stand_in_at, studio

from sidecar.comfyui.stand_in import StandIn
from sidecar.principal import LOCAL

pytestmark = pytest.mark.usefixtures("each_database")


async def test_a_silent_websocket_does_not_keep_a_run_from_ending(
    studio: Studio, stand_in: StandIn
) -> None:
    stand_in.silent_websocket = True
    run = await studio.until((await studio.run(drawing()))["id"])
    assert run["status"] == "succeeded"


async def test_a_websocket_that_is_cut_again_and_again_does_not_either(
    studio: Studio, stand_in: StandIn
) -> None:
    stand_in.hold()
    run = await studio.run(drawing())
    for _ in range(3):
        await studio.until(run["id"], "running")
        await stand_in.drop_websockets()
    stand_in.release()
    assert (await studio.until(run["id"]))["status"] == "succeeded"


async def test_a_comfyui_that_restarts_gets_what_it_forgot_again(
    studio: Studio, stand_in: StandIn
) -> None:
    stand_in.hold()
    first = await studio.run(drawing(0))
    await studio.until(first["id"], "running")
    others = [await studio.run(drawing(seed)) for seed in (1, 2)]
    for run in others:
        await _until_queued(stand_in, run["id"])
    await stand_in.forget_everything()
    stand_in.release()
    ended = [await studio.until(run["id"]) for run in (first, *others)]
    assert [(run["status"], run["attempts"]) for run in ended] == [("succeeded", 2)] * 3
    assert [stand_in.executions[run["id"]] for run in ended] == [2, 1, 1]


async def test_a_comfyui_that_always_forgets_fails_the_run_after_its_attempts(
    tmp_path: Path,
) -> None:
    async with (
        stand_in_at(tmp_path, step_seconds=1.0) as (stand_in, url),
        studio(settings_for(tmp_path, url)) as client,
    ):
        run = await client.run(drawing())
        for attempt in range(1, 4):
            await client.until(run["id"], "running", attempts=attempt)
            await stand_in.forget_everything()
        ended = await client.until(run["id"])
    assert (ended["status"], ended["error"]["code"]) == ("failed", "comfyui_lost_prompt")
    assert ended["error"]["details"]["attempts"] == 3


async def test_a_history_that_is_cleared_loses_no_run(studio: Studio, stand_in: StandIn) -> None:
    runs = []
    for seed in range(5):
        runs.append(await studio.run(drawing(seed)))
        stand_in.clear_history()
    clearing = asyncio.create_task(_keep_clearing(stand_in))
    ended = [await studio.until(run["id"]) for run in runs]
    clearing.cancel()
    assert [run["status"] for run in ended] == ["succeeded"] * 5


async def test_a_prompt_deleted_from_comfyuis_queue_is_not_put_back(
    studio: Studio, served_stand_in: tuple[StandIn, str]
) -> None:
    stand_in, url = served_stand_in
    stand_in.hold()
    first = await studio.run(drawing(1))
    await studio.until(first["id"], "running")
    second = await studio.run(drawing(2))
    await _until_queued(stand_in, second["id"])
    await asyncio.sleep(0.3)  # the sidecar has seen it wait
    async with studio.session.post(f"{url}/queue", json={"delete": [second["id"]]}) as response:
        assert response.status == 200
    ended = await studio.until(second["id"])
    stand_in.release()
    assert (ended["status"], ended["error"]["code"]) == ("cancelled", "removed_from_queue")
    assert (await studio.until(first["id"]))["status"] == "succeeded"
    assert second["id"] not in stand_in.executions


async def test_a_comfyui_that_answers_500_for_a_while_is_waited_for(
    studio: Studio, stand_in: StandIn
) -> None:
    stand_in.hold()
    run = await studio.run(drawing())
    await studio.until(run["id"], "running")
    stand_in.answer_status = 500
    await asyncio.sleep(1)
    stand_in.release()
    stand_in.answer_status = None
    assert (await studio.until(run["id"]))["status"] == "succeeded"


async def test_a_slow_comfyui_is_waited_for(studio: Studio, stand_in: StandIn) -> None:
    stand_in.delay_seconds = 0.3
    assert (await studio.until((await studio.run(drawing()))["id"]))["status"] == "succeeded"


async def test_a_comfyui_that_stays_away_fails_the_run_that_it_had(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        comfyui = AsyncExitStack()
        stand_in, url = await comfyui.enter_async_context(stand_in_at(tmp_path))
        settings = settings_for(tmp_path, url, ATELIER_COMFYUI_PATIENCE=1)
        client = await stack.enter_async_context(studio(settings))
        stand_in.hold()
        run = await client.run(drawing())
        await client.until(run["id"], "running")
        await comfyui.aclose()
        ended = await client.until(run["id"])
        assert (ended["status"], ended["error"]["code"]) == ("failed", "comfyui_unavailable")


async def test_without_a_comfyui_submitting_says_so_and_the_library_works(tmp_path: Path) -> None:
    async with studio(settings_for(tmp_path, "http://127.0.0.1:1")) as client:
        status, refusal = await client.ask("POST", "/runs", json={"workflow_json": drawing()})
        assert (status, refusal["error"]["details"]["system"]) == (503, "comfyui")
        assert (await client.upload("style.safetensors", lora_file()))["version"] == 1
        status, ready = await client.ask("GET", "//ready")
        assert (status, ready["comfyui"]) == (200, "away (comfyui_unavailable)")


async def test_what_is_queued_waits_for_comfyui_to_come_back(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        comfyui = AsyncExitStack()
        _, url = await comfyui.enter_async_context(stand_in_at(tmp_path))
        client = await stack.enter_async_context(studio(settings_for(tmp_path, url)))
        await client.until((await client.run(drawing()))["id"])
        await comfyui.aclose()
        run = await client.run(drawing(2))  # its nodes are known
        await asyncio.sleep(0.5)
        assert (await client.ask("GET", f"/runs/{run['id']}"))[1]["status"] == "queued"
        await stack.enter_async_context(stand_in_at(tmp_path, port=int(url.rsplit(":", 1)[1])))
        assert (await client.until(run["id"]))["status"] == "succeeded"


async def test_a_sidecar_that_stops_and_starts_finishes_what_it_had(tmp_path: Path) -> None:
    async with stand_in_at(tmp_path) as (stand_in, url):
        settings = settings_for(tmp_path, url)
        stand_in.hold()
        async with studio(settings) as client:
            runs = [await client.run(drawing(0))]
            await client.until(runs[0]["id"], "running")
            runs += [await client.run(drawing(seed)) for seed in range(1, 8)]
        stand_in.release()
        async with studio(settings) as client:
            ended = [await client.until(run["id"]) for run in runs]
        assert [run["status"] for run in ended] == ["succeeded"] * 8
        assert set(stand_in.executions.values()) == {1}


async def test_a_lora_folder_that_cannot_be_written_fails_the_run_with_the_reason(
    tmp_path: Path,
) -> None:
    async with stand_in_at(tmp_path) as (stand_in, url):
        settings = settings_for(tmp_path, url, ATELIER_COMFYUI_PATIENCE=1)
        async with studio(settings) as client:
            await client.upload("style.safetensors", lora_file())
            (stand_in.folders.loras / LOCAL.folder).write_text("in the way")
            run = await client.until((await client.run(drawing(lora="style")))["id"])
    assert (run["status"], run["error"]["code"]) == ("failed", "lora_folder_unavailable")
    assert stand_in.executions == {}


async def _keep_clearing(stand_in: StandIn) -> None:
    while True:
        stand_in.clear_history()
        await asyncio.sleep(0.002)


async def _until_queued(stand_in: StandIn, prompt_id: str) -> None:
    for _ in range(200):
        if any(prompt_id in str(item) for item in stand_in.queue.pending):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("never queued")

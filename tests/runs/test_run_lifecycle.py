"""Runs from submission to kept outputs, over HTTP, beside the stand-in."""

import asyncio
import json
from typing import Any

import pytest
from studio import Studio, drawing, lora_file
from waiting import until

from sidecar.comfyui.stand_in import StandIn

pytestmark = pytest.mark.usefixtures("each_database")


async def events_of(studio: Studio, run_id: str, after: int | None = None) -> list[dict[str, Any]]:
    """The whole event stream, as ``{"id", "event", **data}``."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    found: list[dict[str, Any]] = []
    async with studio.session.get(
        f"{studio.api}/runs/{run_id}/events", headers=headers
    ) as response:
        assert response.content_type == "text/event-stream"
        for block in (await response.text()).split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if line[0] != ":")
            if fields:
                data = json.loads(fields["data"])
                found.append({"id": int(fields["id"]), "event": fields["event"], **data})
    return found


async def test_a_run_keeps_its_picture_after_comfyui_lost_the_file(
    studio: Studio, stand_in: StandIn
) -> None:
    run = await studio.until((await studio.run(drawing()))["id"])
    assert run["status"] == "succeeded"
    for file in (stand_in.folders.base / "output").rglob("*.png"):
        file.unlink()
    assert (await studio.picture(run)).startswith(b"\x89PNG")


async def test_a_stored_workflow_runs_with_the_lora_it_is_given(
    studio: Studio, stand_in: StandIn
) -> None:
    lora = await studio.upload("style.safetensors", lora_file(1))
    workflow_id = await studio.save(drawing(lora="none-yet.safetensors"))
    order = {"input_params": {"lora_name": "style.safetensors"}}
    status, run = await studio.ask("POST", f"/workflows/{workflow_id}/run", json=order)
    assert status == 202
    run = await studio.until(run["id"])
    assert run["status"] == "succeeded"
    assert (run["workflow_id"], run["workflow_version"]) == (workflow_id, 1)
    assert [(pin["name"], pin["version"], pin["sha256"]) for pin in run["loras"]] == [
        ("style", 1, lora["sha256"])
    ]
    assert (stand_in.folders.loras / run["loras"][0]["path"]).read_bytes() == lora_file(1)
    assert run["gpu_seconds"] is not None


async def test_a_lora_replaced_under_its_name_is_used_at_once(studio: Studio) -> None:
    await studio.upload("a.safetensors", lora_file(1))
    await studio.upload("b.safetensors", lora_file(2))
    prompts = {name: drawing(lora=f"{name}.safetensors") for name in "ab"}
    pictures = {}
    for name in ("a", "b", "a"):
        run = await studio.until((await studio.run(prompts[name]))["id"])
        pictures.setdefault(name, []).append(run["outputs"][0]["sha256"])
    assert pictures["a"][0] == pictures["a"][1] != pictures["b"][0]
    await studio.upload("a.safetensors", lora_file(2))
    run = await studio.until((await studio.run(prompts["a"]))["id"])
    pixels = [await studio.picture(run)]
    run = await studio.until((await studio.run(prompts["b"]))["id"])
    pixels.append(await studio.picture(run))
    assert _without_text(pixels[0]) == _without_text(pixels[1])


async def test_an_identical_prompt_again_has_its_outputs_too(
    studio: Studio, stand_in: StandIn
) -> None:
    first = await studio.until((await studio.run(drawing()))["id"])
    second = await studio.until((await studio.run(drawing()))["id"])
    assert second["outputs"][0]["sha256"] == first["outputs"][0]["sha256"]
    assert len(list((stand_in.folders.base / "output").rglob("*.png"))) == 1  # it was cached


async def test_events_tell_the_whole_story_and_resume_after_any_of_them(studio: Studio) -> None:
    run_id = (await studio.run(drawing()))["id"]
    story = await events_of(studio, run_id)
    assert [event["id"] for event in story] == list(range(1, len(story) + 1))
    statuses = [event["status"] for event in story if event["event"] == "status"]
    assert statuses == ["queued", "preparing", "running", "succeeded"]
    assert story[-1]["event"] == "done"
    assert "output" in [event["event"] for event in story]
    for after in (0, 1, len(story) - 1):
        assert await events_of(studio, run_id, after) == story[after:]


async def test_a_queued_run_is_cancelled_at_once_and_never_reaches_comfyui(
    studio: Studio, stand_in: StandIn
) -> None:
    stand_in.hold()
    going = [await studio.run(drawing(seed)) for seed in range(4)]  # as many as run at once
    waiting = await studio.run(drawing(99))
    assert waiting["status"] == "queued"
    status, run = await studio.ask("POST", f"/runs/{waiting['id']}/cancel")
    assert (status, run["status"]) == (200, "cancelled")
    stand_in.release()
    for run in going:
        assert (await studio.until(run["id"]))["status"] == "succeeded"
    assert waiting["id"] not in stand_in.executions


async def test_cancelling_a_running_run_interrupts_that_prompt_only(
    studio: Studio, stand_in: StandIn
) -> None:
    stand_in.hold()
    first = await studio.run(drawing(1))
    await studio.until(first["id"], "running")
    second = await studio.run(drawing(2))
    status, _ = await studio.ask("POST", f"/runs/{first['id']}/cancel")
    assert status == 200
    stand_in.release()
    assert (await studio.until(second["id"]))["status"] == "succeeded"
    assert (await studio.until(first["id"]))["status"] == "cancelled"
    status, refusal = await studio.ask("POST", f"/runs/{first['id']}/cancel")
    assert (status, refusal["error"]["code"]) == (409, "run_finished")


async def test_a_run_that_is_cancelled_while_it_is_submitted_is_not_looked_for_any_more(
    studio: Studio, stand_in: StandIn
) -> None:
    await studio.until((await studio.run(drawing(1)))["id"])  # the nodes are known
    stand_in.requests.clear()
    stand_in.delay_seconds = 0.3
    run = await studio.run(drawing(2))

    async def is_submitted() -> bool:
        return any(request.path == "/prompt" for request in stand_in.requests)

    await until(is_submitted)
    assert (await studio.ask("POST", f"/runs/{run['id']}/cancel"))[0] == 200
    stand_in.delay_seconds = 0.0
    await asyncio.sleep(1.0)
    stand_in.requests.clear()
    await asyncio.sleep(2.5)
    assert [request.path for request in stand_in.requests] == []


async def test_a_prompt_that_comfyui_refuses_fails_with_what_each_node_said(
    studio: Studio,
) -> None:
    prompt = drawing()
    prompt["1"]["inputs"]["ckpt_name"] = "absent.ckpt"
    run = await studio.until((await studio.run(prompt))["id"])
    assert (run["status"], run["error"]["code"]) == ("failed", "prompt_refused")
    assert run["error"]["details"]["node_errors"]["1"][0]["type"] == "value_not_in_list"


async def test_the_same_idempotency_key_answers_the_same_run(
    studio: Studio, stand_in: StandIn
) -> None:
    body = {"workflow_json": drawing()}
    headers = {"Idempotency-Key": "once"}
    answers = await asyncio.gather(
        *(studio.ask("POST", "/runs", json=body, headers=headers) for _ in range(5))
    )
    assert {status for status, _ in answers} == {202}
    assert len({run["id"] for _, run in answers}) == 1
    other = {"workflow_json": drawing(2)}
    status, refusal = await studio.ask("POST", "/runs", json=other, headers=headers)
    assert (status, refusal["error"]["code"]) == (409, "idempotency_key_reused")
    await studio.until(answers[0][1]["id"])
    assert len(stand_in.executions) == 1


async def test_a_retry_runs_exactly_what_the_first_one_ran(studio: Studio) -> None:
    await studio.upload("style.safetensors", lora_file(1))
    first = await studio.until((await studio.run(drawing(lora="style")))["id"])
    await studio.upload("style.safetensors", lora_file(2))
    status, again = await studio.ask("POST", f"/runs/{first['id']}/retry")
    assert status == 202
    again = await studio.until(again["id"])
    assert again["id"] != first["id"]
    assert again["loras"] == first["loras"]
    assert again["outputs"][0]["sha256"] == first["outputs"][0]["sha256"]


async def test_a_finished_run_can_be_deleted_with_its_outputs(studio: Studio) -> None:
    run = await studio.until((await studio.run(drawing()))["id"])
    status, _ = await studio.ask("DELETE", f"/runs/{run['id']}")
    assert status == 204
    for path in (f"/runs/{run['id']}", f"/runs/{run['id']}/outputs/0"):
        assert (await studio.ask("GET", path))[0] == 404


async def test_a_lora_that_a_run_waits_for_cannot_be_deleted(
    studio: Studio, stand_in: StandIn
) -> None:
    lora = await studio.upload("style.safetensors", lora_file())
    stand_in.hold()
    run = await studio.run(drawing(lora="style"))
    status, refusal = await studio.ask("DELETE", f"/loras/{lora['id']}")
    assert (status, refusal["error"]["code"]) == (409, "lora_in_use")
    stand_in.release()
    await studio.until(run["id"])
    assert (await studio.ask("DELETE", f"/loras/{lora['id']}"))[0] == 204


def _without_text(png: bytes) -> bytes:
    """The picture without its text chunks, which name the prompt."""
    start = png.index(b"IDAT")
    return png[start:]

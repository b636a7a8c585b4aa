"""Prompts queued inside ComfyUI: admitted, recorded, followed, kept; and what the nodes ask."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from studio import Studio, drawing, lora_file, settings_for
from studio import studio as running_studio

from sidecar.comfyui.stand_in import StandIn

pytestmark = pytest.mark.usefixtures("each_database")

FOREIGN = "user-11111111-1111-4111-8111-111111111111"


async def admit(studio: Studio, **body: Any) -> tuple[int, Any]:
    return await studio.ask("POST", "//internal/admit", json={"body": body}, headers=studio.pack)


async def post_to_comfyui(studio: Studio, url: str, admitted: Any, *, heard: int = 204) -> None:
    """What the pack does with an admitted prompt."""
    async with studio.session.post(f"{url}/prompt", json=admitted["body"]) as response:
        answer = {"run_id": admitted["run_id"], "status": response.status}
        answer["answer"] = await response.json()
    status, _ = await studio.ask("POST", "//internal/admitted", json=answer, headers=studio.pack)
    assert status == heard


async def test_an_editors_prompt_becomes_a_run_with_its_outputs(
    studio: Studio, served_stand_in: tuple[StandIn, str]
) -> None:
    await studio.upload("style.safetensors", lora_file())
    status, admitted = await admit(
        studio, prompt=drawing(lora="style"), client_id="browser", extra_data={"extra_pnginfo": {}}
    )
    assert status == 200
    assert admitted["body"]["prompt_id"] == admitted["run_id"]
    assert admitted["body"]["client_id"] == "browser"
    await post_to_comfyui(studio, served_stand_in[1], admitted)
    run = await studio.until(admitted["run_id"])
    assert (run["status"], run["source"]) == ("succeeded", "editor")
    assert run["loras"][0]["name"] == "style"
    assert (await studio.picture(run)).startswith(b"\x89PNG")
    assert served_stand_in[0].executions == {run["id"]: 1}


async def test_a_lora_that_validation_looks_for_is_on_disk_before_the_admission_answers(
    studio: Studio, stand_in: StandIn
) -> None:
    await studio.upload("style.safetensors", lora_file())
    _, admitted = await admit(studio, prompt=drawing(lora="style"))
    name = admitted["body"]["prompt"]["2"]["inputs"]["lora_name"]
    assert (stand_in.folders.loras / name).exists()


async def test_a_refusal_by_comfyui_ends_the_run_with_its_reason(
    studio: Studio, served_stand_in: tuple[StandIn, str]
) -> None:
    prompt = drawing()
    prompt["1"]["inputs"]["ckpt_name"] = "absent.ckpt"
    _, admitted = await admit(studio, prompt=prompt)
    await post_to_comfyui(studio, served_stand_in[1], admitted)
    run = await studio.until(admitted["run_id"])
    assert (run["status"], run["error"]["code"]) == ("failed", "prompt_refused")


@pytest.mark.parametrize("number", ["5", " -1_0.5 ", True, 2, -1.5])
async def test_whatever_comfyui_reads_as_a_number_is_one(studio: Studio, number: Any) -> None:
    status, admitted = await admit(studio, prompt=drawing(), number=number)
    assert (status, admitted["body"]["number"]) == (200, number)


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_prompt_whose_run_ended_before_comfyui_had_it_is_withdrawn(
    studio: Studio, served_stand_in: tuple[StandIn, str], deleted: bool
) -> None:
    stand_in, url = served_stand_in
    stand_in.hold()
    going = await studio.run(drawing(1))
    await studio.until(going["id"], "running")
    _, admitted = await admit(studio, prompt=drawing(2))
    run_id = admitted["run_id"]
    assert (await studio.ask("POST", f"/runs/{run_id}/cancel"))[0] == 200
    await asyncio.sleep(1.0)  # whoever looks for it in ComfyUI has looked
    if deleted:
        assert (await studio.ask("DELETE", f"/runs/{run_id}"))[0] == 204
    await post_to_comfyui(studio, url, admitted, heard=404 if deleted else 204)
    assert not any(run_id in str(item) for item in stand_in.queue.pending)
    stand_in.release()
    assert (await studio.until(going["id"]))["status"] == "succeeded"
    assert run_id not in stand_in.executions


async def test_a_comfyui_that_forgets_an_editors_prompt_gets_it_again(
    studio: Studio, served_stand_in: tuple[StandIn, str]
) -> None:
    stand_in, url = served_stand_in
    stand_in.hold()
    _, admitted = await admit(
        studio,
        prompt=drawing(),
        extra_data={"api_key_comfy_org": "secret", "extra_pnginfo": {"workflow": {"nodes": []}}},
    )
    await post_to_comfyui(studio, url, admitted)
    await studio.until(admitted["run_id"], "running")
    await stand_in.forget_everything()
    run = await studio.until(admitted["run_id"])
    assert (run["status"], run["attempts"]) == ("succeeded", 2)


async def test_a_forgotten_prompt_that_only_some_outputs_were_asked_of_makes_only_these_again(
    studio: Studio, served_stand_in: tuple[StandIn, str]
) -> None:
    stand_in, url = served_stand_in
    stand_in.hold()
    prompt = drawing()
    prompt["9"] = {"class_type": "PreviewImage", "inputs": {"images": ["7", 0]}}
    _, admitted = await admit(studio, prompt=prompt, partial_execution_targets=["8"])
    await post_to_comfyui(studio, url, admitted)
    await studio.until(admitted["run_id"], "running")
    await stand_in.forget_everything()
    run = await studio.until(admitted["run_id"])
    assert (run["status"], run["attempts"]) == ("succeeded", 2)
    assert [output["node_id"] for output in run["outputs"]] == ["8"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"prompt": {"nodes": [], "links": []}}, 422, "ui_graph"),
        ({"prompt": None}, 422, "invalid_prompt"),
        ({}, 422, "invalid_prompt"),
        ({"prompt": drawing(), "extra_data": None}, 422, "invalid_prompt_request"),
        ({"prompt": drawing(), "client_id": ["x"]}, 422, "invalid_prompt_request"),
        ({"prompt": drawing(), "number": "first"}, 422, "invalid_prompt_request"),
        ({"prompt": drawing(), "number": "nan"}, 422, "invalid_prompt_request"),
        ({"prompt": drawing(), "number": "-1e999"}, 422, "invalid_prompt_request"),
        ({"prompt": drawing(), "number": None}, 422, "invalid_prompt_request"),
        ({"prompt": drawing(), "number": []}, 422, "invalid_prompt_request"),
        ({"prompt": drawing(), "partial_execution_targets": 5}, 422, "invalid_prompt_request"),
        ({"prompt": drawing(lora="nowhere")}, 422, "lora_not_found"),
        ({"prompt": drawing(lora=f"{FOREIGN}/x.safetensors")}, 403, "foreign_path"),
        ({"prompt": {"1": {"class_type": "Unheard", "inputs": {}}}}, 422, "unknown_nodes"),
    ],
)
async def test_what_may_not_run_is_refused_and_leaves_no_run(
    studio: Studio, body: dict[str, Any], status: int, code: str
) -> None:
    answered, refusal = await admit(studio, **body)
    assert (answered, refusal["error"]["code"]) == (status, code)
    assert (await studio.ask("GET", "/runs"))[1]["items"] == []


async def test_strangers_do_not_reach_the_packs_routes(studio: Studio) -> None:
    for headers in ({}, {"X-Atelier-Pack": "guess"}):
        for path in ("admit", "admitted", "loras/ensure", "loras/resolve"):
            status, _ = await studio.ask("POST", f"//internal/{path}", json={}, headers=headers)
            assert status == 401


async def test_a_node_gets_its_lora_with_progress_and_at_last_the_file(
    studio: Studio, stand_in: StandIn
) -> None:
    lora = await studio.upload("style.safetensors", lora_file())
    async with studio.session.post(
        f"{studio.host}/internal/loras/ensure",
        json={"prompt_id": None, "lora": "style.safetensors"},
        headers=studio.pack,
    ) as response:
        lines = [json.loads(line) async for line in response.content]
    found = lines[-1]["lora"]
    assert (found["name"], found["version"], found["sha256"]) == ("style", 1, lora["sha256"])
    assert (stand_in.folders.loras / found["path"]).read_bytes() == lora_file()


async def test_a_node_that_names_what_is_not_there_hears_so(studio: Studio) -> None:
    order = {"prompt_id": None, "lora": "nowhere"}
    status, refusal = await studio.ask(
        "POST", "//internal/loras/ensure", json=order, headers=studio.pack
    )
    assert (status, refusal["error"]["details"]["names"]) == (422, ["nowhere"])


async def test_resolving_tells_the_head_version_without_fetching(
    studio: Studio, stand_in: StandIn
) -> None:
    await studio.upload("style.safetensors", lora_file(1))
    second = await studio.upload("style.safetensors", lora_file(2))
    order = {"prompt_id": None, "lora": "style"}
    _, found = await studio.ask("POST", "//internal/loras/resolve", json=order, headers=studio.pack)
    assert (found["version"], found["sha256"]) == (2, second["sha256"])
    assert not (stand_in.folders.loras / found["path"]).exists()


async def test_the_editor_queues_no_more_runs_than_an_account_may_have(
    tmp_path: Path, served_stand_in: tuple[StandIn, str]
) -> None:
    stand_in, url = served_stand_in
    stand_in.hold()
    async with running_studio(settings_for(tmp_path, url, ATELIER_USER_RUNS=2)) as studio:
        await studio.run(drawing(1))
        _, admitted = await admit(studio, prompt=drawing(2))
        await post_to_comfyui(studio, url, admitted)

        order = {"body": {"prompt": drawing(3)}}
        async with studio.session.post(
            f"{studio.host}/internal/admit", json=order, headers=studio.pack
        ) as response:
            refusal = await response.json()
        assert (response.status, refusal["error"]["code"]) == (429, "too_many_runs")
        assert int(response.headers["Retry-After"]) > 0
        assert len((await studio.ask("GET", "/runs"))[1]["items"]) == 2

        stand_in.release()
        await studio.until(admitted["run_id"])
        assert (await admit(studio, prompt=drawing(3)))[0] == 200


@pytest.mark.parametrize("path", ["admit", "admitted", "loras/ensure", "loras/resolve", "nowhere"])
@pytest.mark.parametrize(("auth", "said"), [("none", "off"), ("local", "on")])
async def test_every_answer_tells_the_pack_whether_people_sign_in(
    tmp_path: Path, served_stand_in: tuple[StandIn, str], path: str, auth: str, said: str
) -> None:
    settings = settings_for(tmp_path, served_stand_in[1], ATELIER_AUTH=auth)
    async with running_studio(settings) as studio:
        for headers in (studio.pack, {"X-Atelier-Pack": "guess"}):
            async with studio.session.post(
                f"{studio.host}/internal/{path}", json={}, headers=headers
            ) as response:
                assert response.headers["X-Atelier-Accounts"] == said
        async with studio.session.get(f"{studio.host}/health") as response:
            assert "X-Atelier-Accounts" not in response.headers

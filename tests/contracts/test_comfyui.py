"""The ComfyUI port: the same promises kept in front of the stand-in and of a real server."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from comfyui_server import ComfyUIServer
from safetensors_files import lora_bytes
from sample_graphs import txt2img
from waiting import until

from sidecar.comfyui import ComfyUI, HistoryEntry, OutputFile, Place, PromptRefusedError
from sidecar.comfyui.client import connected
from sidecar.comfyui.stand_in import StandIn, serving
from sidecar.errors import NotFoundError

_seeds = itertools.count(1)
MANY_STEPS = 2000


@dataclass(frozen=True)
class Setting:
    """A server, a client connected to it, and where its LoRAs are."""

    url: str
    loras_dir: Path
    comfyui: ComfyUI


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.comfyui)])
async def setting(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Setting]:
    client_id = f"sidecar-{uuid4()}"
    if request.param == "real":
        server: ComfyUIServer = request.getfixturevalue("real_comfyui")
        async with connected(server.url, client_id=client_id) as comfyui:
            yield Setting(server.url, server.loras_dir, comfyui)
            await _empty(server.url)
        return
    loras_dir = tmp_path / "loras"
    stand_in = StandIn(tmp_path / "base", loras_dir, step_seconds=0.005)
    for seed, name in enumerate(("lora-a", "lora-b")):
        (loras_dir / f"{name}.safetensors").write_bytes(lora_bytes(seed))
    async with serving(stand_in) as url, connected(url, client_id=client_id) as comfyui:
        yield Setting(url, loras_dir, comfyui)
        assert stand_in.stopped_by == []


async def _empty(url: str) -> None:
    """Leave nothing running on a server that others use too."""
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        await session.post(f"{url}/queue", json={"clear": True})
        await session.post(f"{url}/interrupt", json={})

        async def idle() -> bool:
            async with session.get(f"{url}/prompt") as answer:
                waiting: int = (await answer.json())["exec_info"]["queue_remaining"]
            return waiting == 0

        await until(idle)


def _prompt(steps: int = 2) -> dict[str, Any]:
    """A graph that no cache has seen."""
    prompt = txt2img()
    prompt["6"]["inputs"].update(seed=next(_seeds), steps=steps)
    return prompt


async def _place_is(setting: Setting, prompt_id: str, place: Place) -> None:
    async def there() -> bool:
        return (await setting.comfyui.find(prompt_id)).place is place

    await until(there)


async def _finished(setting: Setting, prompt_id: str) -> HistoryEntry:
    await _place_is(setting, prompt_id, Place.FINISHED)
    entry = (await setting.comfyui.find(prompt_id)).entry
    assert entry is not None
    return entry


async def _run(setting: Setting, prompt: dict[str, Any]) -> HistoryEntry:
    prompt_id = str(uuid4())
    await setting.comfyui.submit(prompt_id, 1, prompt, {})
    return await _finished(setting, prompt_id)


def _saved(entry: HistoryEntry) -> OutputFile:
    (image,) = entry.outputs["8"]["images"]
    return OutputFile(image["filename"], image["subfolder"], image["type"])


async def _bytes(setting: Setting, file: OutputFile) -> bytes:
    async with setting.comfyui.open_file(file) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_the_server_says_which_versions_it_has(setting: Setting) -> None:
    stats = await setting.comfyui.system_stats()
    assert stats.comfyui_version.count(".") == 2
    assert stats.python_version.startswith("3.")


async def test_an_id_that_was_never_submitted_is_unknown(setting: Setting) -> None:
    found = await setting.comfyui.find(str(uuid4()))
    assert (found.place, found.entry) == (Place.UNKNOWN, None)


async def test_a_prompt_ends_in_the_history_with_its_outputs(setting: Setting) -> None:
    entry = await _run(setting, _prompt())
    assert entry.status == "success"
    assert _saved(entry).type == "output"


async def test_the_history_tells_when_a_prompt_began_and_ended(setting: Setting) -> None:
    entry = await _run(setting, _prompt())
    kinds = [kind for kind, _ in entry.messages]
    assert kinds == ["execution_start", "execution_cached", "execution_success"]
    times = [data["timestamp"] for _, data in entry.messages]
    assert times == sorted(times)
    assert times[0] > 1_600_000_000_000


async def test_an_output_is_streamed_whole(setting: Setting) -> None:
    picture = await _bytes(setting, _saved(await _run(setting, _prompt())))
    assert picture.startswith(b"\x89PNG")
    assert picture.endswith(b"IEND\xaeB`\x82")


async def test_an_output_that_is_not_there_is_not_found(setting: Setting) -> None:
    with pytest.raises(NotFoundError) as caught:
        await _bytes(setting, OutputFile("nothing.png", "", "output"))
    assert caught.value.code == "output_file_not_found"


async def test_a_repeat_answered_from_the_cache_still_has_its_outputs(setting: Setting) -> None:
    prompt = _prompt()
    first = await _run(setting, prompt)
    again = await _run(setting, prompt)
    assert dict(again.messages)["execution_cached"]["nodes"]
    assert again.outputs == first.outputs


async def test_loras_of_different_weights_give_different_pictures(setting: Setting) -> None:
    prompt = _prompt()
    pictures = set()
    for name in ("lora-a.safetensors", "lora-b.safetensors"):
        prompt["2"]["inputs"]["lora_name"] = name
        pictures.add(await _bytes(setting, _saved(await _run(setting, prompt))))
    assert len(pictures) == 2


async def test_submitting_a_finished_id_again_does_not_run_it_again(setting: Setting) -> None:
    prompt_id, prompt = str(uuid4()), _prompt()
    await setting.comfyui.submit(prompt_id, 1, prompt, {})
    first = await _finished(setting, prompt_id)
    await setting.comfyui.submit(prompt_id, 2, _prompt(), {})
    assert await _finished(setting, prompt_id) == first


async def test_submitting_a_waiting_or_running_id_again_changes_nothing(setting: Setting) -> None:
    running, waiting = str(uuid4()), str(uuid4())
    for prompt_id in (running, waiting, running, waiting):
        await setting.comfyui.submit(prompt_id, 1, _prompt(MANY_STEPS), {})
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{setting.url}/queue") as answer,
    ):
        queue = await answer.json()
    held = [item[1] for item in queue["queue_running"] + queue["queue_pending"]]
    assert sorted(held) == sorted([running, waiting])


async def test_where_a_prompt_is_and_how_many_are_before_it(setting: Setting) -> None:
    running, second, third = str(uuid4()), str(uuid4()), str(uuid4())
    for prompt_id in (running, second, third):
        await setting.comfyui.submit(prompt_id, 1, _prompt(MANY_STEPS), {})
    await _place_is(setting, running, Place.RUNNING)
    found = [await setting.comfyui.find(prompt_id) for prompt_id in (running, second, third)]
    assert [there.place for there in found] == [Place.RUNNING, Place.PENDING, Place.PENDING]
    assert [there.ahead for there in found] == [0, 1, 2]


async def test_a_waiting_prompt_is_withdrawn_without_a_trace(setting: Setting) -> None:
    running, waiting = str(uuid4()), str(uuid4())
    for prompt_id in (running, waiting):
        await setting.comfyui.submit(prompt_id, 1, _prompt(MANY_STEPS), {})
    await _place_is(setting, running, Place.RUNNING)
    await setting.comfyui.withdraw(waiting)
    assert (await setting.comfyui.find(waiting)).place is Place.UNKNOWN
    assert (await setting.comfyui.find(running)).place is Place.RUNNING


async def test_a_running_prompt_is_interrupted(setting: Setting) -> None:
    prompt_id = str(uuid4())
    await setting.comfyui.submit(prompt_id, 1, _prompt(MANY_STEPS), {})
    await _place_is(setting, prompt_id, Place.RUNNING)

    async def gone() -> bool:
        # ComfyUI loses an interrupt that comes before the prompt has really begun
        await setting.comfyui.withdraw(prompt_id)
        return (await setting.comfyui.find(prompt_id)).place is Place.FINISHED

    await until(gone, every=0.2)
    entry = await _finished(setting, prompt_id)
    assert entry.status == "error"
    assert "execution_interrupted" in dict(entry.messages)


async def test_withdrawing_an_unknown_id_leaves_what_runs_alone(setting: Setting) -> None:
    prompt_id = str(uuid4())
    await setting.comfyui.submit(prompt_id, 1, _prompt(20), {})
    await _place_is(setting, prompt_id, Place.RUNNING)
    await setting.comfyui.withdraw(str(uuid4()))
    assert (await _finished(setting, prompt_id)).status == "success"


async def test_a_refusal_names_the_node_and_the_input(setting: Setting) -> None:
    prompt = _prompt()
    prompt["2"]["inputs"]["lora_name"] = "nowhere.safetensors"
    with pytest.raises(PromptRefusedError) as caught:
        await setting.comfyui.submit(str(uuid4()), 1, prompt, {})
    assert caught.value.code == "prompt_refused"
    details = caught.value.details
    assert details["error"]["type"] == "prompt_outputs_failed_validation"
    (error,) = details["node_errors"]["2"]["errors"]
    assert error["type"] == "value_not_in_list"
    assert error["extra_info"]["received_value"] == "nowhere.safetensors"


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda prompt: prompt.pop("8"), "prompt_no_outputs"),
        (lambda prompt: prompt["6"].update(class_type="NoSuchNode"), "invalid_prompt"),
        (lambda prompt: prompt["6"]["inputs"].pop("seed"), "prompt_outputs_failed_validation"),
        (lambda prompt: prompt["7"]["inputs"].update(samples=["99", 0]), "prompt_outputs"),
    ],
    ids=["without outputs", "unknown class", "missing input", "link to nowhere"],
)
async def test_what_comfyui_refuses_is_refused(setting: Setting, change: Any, kind: str) -> None:
    prompt = _prompt()
    change(prompt)
    with pytest.raises(PromptRefusedError) as caught:
        await setting.comfyui.submit(str(uuid4()), 1, prompt, {})
    assert caught.value.details["error"]["type"].startswith(kind)
    assert "traceback" not in str(caught.value.details)


@pytest.mark.parametrize("node", [{"class_type": "VAEDecode"}, {"inputs": {}}, [], None])
async def test_a_node_that_stops_comfyui_never_reaches_it(setting: Setting, node: Any) -> None:
    prompt = _prompt()
    prompt["99"] = node
    with pytest.raises(PromptRefusedError, match="99"):
        await setting.comfyui.submit(str(uuid4()), 1, prompt, {})
    assert (await _run(setting, _prompt())).status == "success"


async def test_a_client_id_that_stops_comfyui_is_replaced(setting: Setting) -> None:
    prompt_id = str(uuid4())
    await setting.comfyui.submit(prompt_id, 1, _prompt(), {"client_id": ["x"]})
    assert (await _finished(setting, prompt_id)).status == "success"


async def test_a_corrupt_lora_fails_the_prompt_and_says_where(setting: Setting) -> None:
    name = f"corrupt-{uuid4()}.safetensors"
    file = setting.loras_dir / name
    file.write_bytes(lora_bytes()[:-100])
    prompt = _prompt()
    prompt["2"]["inputs"]["lora_name"] = name
    try:
        entry = await _run(setting, prompt)
    finally:
        file.unlink()
    error = dict(entry.messages)["execution_error"]
    assert (entry.status, error["node_id"]) == ("error", "2")
    assert error["exception_message"].startswith("Error while deserializing header")


async def test_lora_files_are_listed_as_the_server_spells_them(setting: Setting) -> None:
    folder = setting.loras_dir / f"user-{uuid4()}"
    folder.mkdir()
    file = folder / "style.0a1b2c3d.safetensors"
    file.write_bytes(lora_bytes(7))
    (folder / "other.safetensors.part").write_bytes(b"half")
    try:
        listed = await setting.comfyui.lora_files()
    finally:
        file.unlink()
    assert str(file.relative_to(setting.loras_dir)) in listed
    assert not [name for name in listed if name.endswith(".part")]


async def test_object_info_describes_every_class_and_names_the_loras(setting: Setting) -> None:
    info = await setting.comfyui.object_info()
    choices = info["LoraLoader"]["input"]["required"]["lora_name"][0]
    assert "lora-a.safetensors" in choices
    assert "SaveImage" in info


async def test_fresh_object_info_knows_a_file_that_came_just_now(setting: Setting) -> None:
    await setting.comfyui.object_info()
    file = setting.loras_dir / f"new-{uuid4()}.safetensors"
    file.write_bytes(lora_bytes(3))
    try:
        info = await setting.comfyui.object_info(fresh=True)
    finally:
        file.unlink()
    assert file.name in info["LoraLoader"]["input"]["required"]["lora_name"][0]


async def test_messages_follow_a_prompt_from_start_to_end(setting: Setting) -> None:
    prompt_id = str(uuid4())
    kinds = []
    async with setting.comfyui.messages() as messages:
        await setting.comfyui.submit(prompt_id, 1, _prompt(), {})
        async for message in messages:
            kinds.append(message.type)
            if message.type == "executing" and message.data["node"] is None:
                break
    assert [kind for kind in kinds if kind.startswith("execution_")] == [
        "execution_start",
        "execution_cached",
        "execution_success",
    ]
    assert {"status", "executing", "progress", "progress_state", "executed"} <= set(kinds)


async def test_messages_of_an_editors_prompt_go_to_the_editor(setting: Setting) -> None:
    editors, ours = str(uuid4()), str(uuid4())
    heard = set()
    async with setting.comfyui.messages() as messages:
        await setting.comfyui.submit(editors, 1, _prompt(), {"client_id": "an-editor"})
        await _finished(setting, editors)
        await setting.comfyui.submit(ours, 1, _prompt(), {})
        async for message in messages:
            heard.add(message.data.get("prompt_id"))
            if message.type == "execution_success":
                break
    assert heard == {None, ours}


async def test_leaving_the_messages_early_leaves_no_task_behind(setting: Setting) -> None:
    before = asyncio.all_tasks()
    async with setting.comfyui.messages():
        pass
    assert {task for task in asyncio.all_tasks() - before if "fill" in repr(task)} == set()

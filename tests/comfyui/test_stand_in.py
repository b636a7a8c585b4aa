"""What the stand-in does beyond ComfyUI's answers: pictures, outputs of every kind, knobs."""

import asyncio
import io
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from PIL import Image
from safetensors_files import lora_bytes
from sample_graphs import txt2img
from waiting import until

from sidecar.comfyui import HistoryEntry, Place
from sidecar.comfyui.client import HttpComfyUI, connected
from sidecar.comfyui.stand_in import NodeClass, Result, StandIn, Work, serving
from sidecar.errors import UnavailableError


@pytest.fixture
def stand_in(tmp_path: Path) -> StandIn:
    made = StandIn(tmp_path / "base", tmp_path / "loras")
    for seed, name in enumerate(("lora-a", "lora-b")):
        (tmp_path / "loras" / f"{name}.safetensors").write_bytes(lora_bytes(seed))
    return made


@pytest.fixture
async def comfyui(stand_in: StandIn) -> AsyncIterator[HttpComfyUI]:
    async with serving(stand_in) as url, connected(url, client_id="me") as client:
        yield client


async def _run(comfyui: HttpComfyUI, prompt: dict[str, Any]) -> HistoryEntry:
    prompt_id = str(uuid4())
    await comfyui.submit(prompt_id, 1, prompt, {})
    await _ended(comfyui, prompt_id)
    entry = (await comfyui.find(prompt_id)).entry
    assert entry is not None
    return entry


async def _ended(comfyui: HttpComfyUI, prompt_id: str) -> None:
    async def ended() -> bool:
        return (await comfyui.find(prompt_id)).place is Place.FINISHED

    await until(ended)


def _picture(stand_in: StandIn, entry: HistoryEntry) -> bytes:
    """The pixels of the one picture."""
    (image,) = entry.outputs["8"]["images"]
    file = stand_in.folders.base / image["type"] / image["subfolder"] / image["filename"]
    with Image.open(io.BytesIO(file.read_bytes())) as opened:
        return opened.tobytes()


CHANGES: dict[str, Any] = {
    "text": ("3", {"text": "a dog"}),
    "negative text": ("4", {"text": "good"}),
    "seed": ("6", {"seed": 2}),
    "steps": ("6", {"steps": 3}),
    "size": ("5", {"width": 128}),
    "lora": ("2", {"lora_name": "lora-b.safetensors"}),
    "strength of the model": ("2", {"strength_model": 0.5}),
    "strength of the clip": ("2", {"strength_clip": 0.5}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_the_picture_depends_on_what_goes_in(
    stand_in: StandIn, comfyui: HttpComfyUI, change: tuple[str, dict[str, Any]]
) -> None:
    first = _picture(stand_in, await _run(comfyui, txt2img()))
    node, inputs = change
    prompt = txt2img()
    prompt[node]["inputs"].update(inputs)
    assert _picture(stand_in, await _run(comfyui, prompt)) != first
    assert _picture(stand_in, await _run(comfyui, txt2img())) == first


def _loaded_by(class_type: str, inputs: dict[str, Any]) -> dict[str, Any]:
    prompt = txt2img()
    links = {name: prompt["2"]["inputs"][name] for name in ("model", "clip")}
    prompt["2"] = {"class_type": class_type, "inputs": {**links, **inputs}}
    return prompt


async def test_every_loader_of_the_same_lora_draws_the_same_picture(
    stand_in: StandIn, comfyui: HttpComfyUI
) -> None:
    name, one = "lora-b.safetensors", {"strength_model": 1.0, "strength_clip": 1.0}
    power = {"lora_1": {"on": True, "lora": name, "strength": 1.0}, "Add Lora": ""}
    stack: dict[str, Any] = {}
    for slot in (1, 2, 3):
        stack |= {f"switch_{slot}": "On" if slot == 2 else "Off"}
        stack |= {f"lora_name_{slot}": name if slot == 2 else "None"}
        stack |= {f"model_weight_{slot}": 1.0, f"clip_weight_{slot}": 1.0}
    stacked = _loaded_by("CR Apply LoRA Stack", {"lora_stack": ["9", 0]})
    stacked["9"] = {"class_type": "CR LoRA Stack", "inputs": stack}
    prompts = [
        _loaded_by("LoraLoader", {"lora_name": name, **one}),
        _loaded_by("UserLoraLoader", {"lora_name": name, **one}),
        _loaded_by("Power Lora Loader (rgthree)", power),
        stacked,
    ]
    pictures = [_picture(stand_in, await _run(comfyui, prompt)) for prompt in prompts]
    assert len(set(pictures)) == 1
    assert pictures[0] != _picture(stand_in, await _run(comfyui, txt2img()))


async def test_a_user_lora_that_is_not_there_fails_when_it_runs(comfyui: HttpComfyUI) -> None:
    inputs = {"lora_name": "user-x/gone.safetensors", "strength_model": 1, "strength_clip": 1}
    entry = await _run(comfyui, _loaded_by("UserLoraLoader", inputs))
    error = dict(entry.messages)["execution_error"]
    assert "gone.safetensors" in error["exception_message"]


def _with_saver(class_type: str, link: str, **inputs: Any) -> dict[str, Any]:
    prompt = txt2img()
    prompt["5"]["inputs"]["batch_size"] = 2
    prompt["8"] = {"class_type": class_type, "inputs": {link: ["7", 0], **inputs}}
    return prompt


WEBP = {"filename_prefix": "w", "fps": 6, "lossless": True, "quality": 80, "method": "default"}


async def test_an_animation_is_a_webp_that_opens(stand_in: StandIn, comfyui: HttpComfyUI) -> None:
    entry = await _run(comfyui, _with_saver("SaveAnimatedWEBP", "images", **WEBP))
    assert entry.outputs["8"]["animated"] == [True]
    with Image.open(stand_in.folders.base / "output" / "w_00001_.webp") as opened:
        assert getattr(opened, "n_frames", 1) == 2


async def test_audio_video_and_text_are_reported_under_comfyuis_keys(comfyui: HttpComfyUI) -> None:
    audio = {
        "1": {
            "class_type": "EmptyAudio",
            "inputs": {"duration": 1, "sample_rate": 44100, "channels": 2},
        },
        "2": {
            "class_type": "SaveAudio",
            "inputs": {"audio": ["1", 0], "filename_prefix": "audio/a"},
        },
        "3": {
            "class_type": "SaveTextFile",
            "inputs": {"text": "said", "filename_prefix": "t"},
        },
        "4": {"class_type": "PreviewAny", "inputs": {"source": "shown"}},
    }
    outputs = (await _run(comfyui, audio)).outputs
    sound = {"filename": "a_00001_.flac", "subfolder": "audio", "type": "output"}
    assert outputs["2"] == {"audio": [sound]}
    assert outputs["3"]["text"][0]["filename"] == "t_00001_.txt"
    assert outputs["4"] == {"text": ["shown"]}
    video = _with_saver("SaveVideo", "video", filename_prefix="v", format="auto", codec="auto")
    video["9"] = {"class_type": "CreateVideo", "inputs": {"images": ["7", 0], "fps": 8}}
    video["8"]["inputs"]["video"] = ["9", 0]
    outputs = (await _run(comfyui, video)).outputs
    assert outputs["8"]["images"][0]["filename"] == "v_00001_.mp4"
    assert outputs["8"]["animated"] == [True]


async def test_a_node_of_the_tests_own_can_be_added(tmp_path: Path) -> None:
    async def shout(_work: Work, text: str) -> Result:
        return Result(ui={"text": [text.upper()]})

    own = NodeClass(
        "Shout", lambda _folders: {"required": {"text": ("STRING", {})}}, shout, output_node=True
    )
    stand_in = StandIn(tmp_path / "base", tmp_path / "loras", extra_nodes=[own])
    async with serving(stand_in) as url, connected(url, client_id="me") as comfyui:
        entry = await _run(comfyui, {"1": {"class_type": "Shout", "inputs": {"text": "hey"}}})
    assert entry.outputs == {"1": {"text": ["HEY"]}}


async def test_what_is_held_runs_until_it_is_released(
    stand_in: StandIn, comfyui: HttpComfyUI
) -> None:
    stand_in.hold()
    await comfyui.submit("held", 1, txt2img(), {})
    await comfyui.submit("behind", 1, txt2img(), {})

    async def running() -> bool:
        return (await comfyui.find("held")).place is Place.RUNNING

    await until(running)
    assert (await comfyui.find("behind")).place is Place.PENDING
    stand_in.release()
    await _ended(comfyui, "behind")
    assert stand_in.executions == {"held": 1, "behind": 1}


async def test_what_is_held_can_be_interrupted(stand_in: StandIn, comfyui: HttpComfyUI) -> None:
    stand_in.hold()
    await comfyui.submit("held", 1, txt2img(), {})

    async def gone() -> bool:
        await comfyui.withdraw("held")
        return (await comfyui.find("held")).place is Place.FINISHED

    await until(gone)
    entry = (await comfyui.find("held")).entry
    assert entry is not None
    assert "execution_interrupted" in dict(entry.messages)


async def test_a_restart_forgets_queue_history_and_what_runs(
    stand_in: StandIn, comfyui: HttpComfyUI
) -> None:
    await comfyui.submit("done", 1, txt2img(), {})
    await _ended(comfyui, "done")
    stand_in.hold()
    await comfyui.submit("running", 1, txt2img(), {})
    await comfyui.submit("waiting", 1, txt2img(), {})
    await stand_in.forget_everything()
    places = [(await comfyui.find(name)).place for name in ("done", "running", "waiting")]
    assert places == [Place.UNKNOWN] * 3
    assert (await _run(comfyui, txt2img())).status == "success"


async def test_a_cleared_history_answers_unknown(stand_in: StandIn, comfyui: HttpComfyUI) -> None:
    await comfyui.submit("done", 1, txt2img(), {})
    await _ended(comfyui, "done")
    stand_in.clear_history()
    assert (await comfyui.find("done")).place is Place.UNKNOWN


DEADLY: dict[str, dict[str, Any]] = {
    "extra_data is null": {"extra_data": None},
    "client_id is a list": {"client_id": ["x"]},
    "an unused node without inputs": {"prompt": {"99": {"class_type": "VAEDecode"}}},
    "an unused node with a list of inputs": {
        "prompt": {"99": {"class_type": "VAEDecode", "inputs": []}}
    },
}


@pytest.mark.parametrize("order", DEADLY.values(), ids=DEADLY.keys())
async def test_what_stops_comfyui_is_written_down(stand_in: StandIn, order: dict[str, Any]) -> None:
    body = {**order, "prompt": {**txt2img(), **order.get("prompt", {})}}
    async with (
        serving(stand_in) as url,
        aiohttp.ClientSession() as session,
        session.post(f"{url}/prompt", json=body) as answer,
    ):
        assert answer.status == 200
    assert stand_in.stopped_by


@asynccontextmanager
async def _process(tmp_path: Path, *more: str) -> AsyncIterator[tuple[Any, str]]:
    """The stand-in as a process of its own, and its URL."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sidecar.comfyui.stand_in", "--port", "0"),
        *("--base-dir", str(tmp_path / "base"), "--loras-dir", str(tmp_path / "loras"), *more),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        said = (await process.stdout.readline()).decode().split()
        yield process, said[-1]
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_killed_process_leaves_its_count_of_executions(tmp_path: Path) -> None:
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / "lora-a.safetensors").write_bytes(lora_bytes())
    async with (
        _process(tmp_path, "--step-seconds", "60") as (process, url),
        connected(url, client_id="me") as comfyui,
    ):
        await comfyui.submit("cut off", 1, txt2img(), {})

        async def running() -> bool:
            return (await comfyui.find("cut off")).place is Place.RUNNING

        await until(running)
        process.kill()
        await process.wait()
        with pytest.raises(UnavailableError):
            await comfyui.find("cut off")
    again = StandIn(tmp_path / "base", tmp_path / "loras")
    assert again.executions == {"cut off": 1}

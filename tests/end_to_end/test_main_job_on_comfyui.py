"""The main job over ComfyUI's own port, against the real server with the pack in it."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfyui_server import ComfyUIServer
from pack_in_comfyui import (
    API,
    ComfyUIsWithPack,
    ask,
    drawing,
    ended,
    pixels,
    queue,
    sidecar_pid,
    upload,
    wait_for,
    wait_for_sidecar,
)

pytestmark = [pytest.mark.comfyui, pytest.mark.timeout(180)]


@pytest.fixture
def library(comfyui_with_pack: ComfyUIServer, tiny_models: Path) -> Iterator[None]:
    """LoRAs ``mine-a`` and ``mine-b``, uploaded; taken away again at the end."""
    loras = []
    for letter in "ab":
        weights = (tiny_models / "loras" / f"lora-{letter}.safetensors").read_bytes()
        loras.append(upload(comfyui_with_pack, "/loras", weights, name=f"mine-{letter}"))
    yield
    for lora in loras:
        ask(comfyui_with_pack, "DELETE", f"{API}/loras/{lora['id']}")


def run(server: ComfyUIServer, workflow_id: str, **params: Any) -> Any:
    """Run a stored workflow to its end."""
    path = f"{API}/workflows/{workflow_id}/run"
    status, accepted = ask(server, "POST", path, {"input_params": params})
    assert status == 202, accepted
    return ended(server, accepted["id"])


def save(server: ComfyUIServer, prompt: Any) -> str:
    """Store a workflow."""
    body = {"name": f"flow {time.monotonic_ns()}", "workflow_json": prompt}
    status, workflow = ask(server, "POST", f"{API}/workflows", body)
    assert status == 201, workflow
    return str(workflow["id"])


def without_lora() -> dict[str, Any]:
    """Text to image that goes past the LoRA loader."""
    prompt = drawing("LoraLoader", "none")
    del prompt["2"]
    for node in prompt.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] == "2":
                node["inputs"][name] = ["1", value[1]]
    return prompt


@pytest.mark.usefixtures("library")
def test_none_a_and_b_make_three_pictures_each_the_same_again(
    comfyui_with_pack: ComfyUIServer,
) -> None:
    server = comfyui_with_pack
    plain, styled = save(server, without_lora()), save(server, drawing("LoraLoader", "x"))
    pictures: dict[str, set[bytes]] = {"none": set(), "a": set(), "b": set()}
    for _ in range(2):
        pictures["none"].add(pixels(server, run(server, plain)))
        for letter in "ab":
            params = {"lora_name": f"mine-{letter}.safetensors"}
            pictures[letter].add(pixels(server, run(server, styled, **params)))

    assert [len(each) for each in pictures.values()] == [1, 1, 1]
    assert len(set.union(*pictures.values())) == 3
    assert "lora key not loaded" not in server.log()


@pytest.mark.usefixtures("library")
def test_the_editors_queue_makes_the_same_three_pictures(
    comfyui_with_pack: ComfyUIServer,
) -> None:
    server = comfyui_with_pack
    by_editor = {"none": pixels(server, queue(server, without_lora()))}
    for letter in "ab":
        by_editor[letter] = pixels(
            server, queue(server, drawing("UserLoraLoader", f"mine-{letter}.safetensors"))
        )
    styled = save(server, drawing("LoraLoader", "x"))
    by_rest = {
        letter: pixels(server, run(server, styled, lora_name=f"mine-{letter}")) for letter in "ab"
    }

    assert len(set(by_editor.values())) == 3
    assert by_rest == {letter: by_editor[letter] for letter in "ab"}
    assert "lora key not loaded" not in server.log()


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("loader", ["LoraLoader", "UserLoraLoader"])
def test_a_replaced_under_its_name_draws_bs_picture_at_once(
    comfyui_with_pack: ComfyUIServer, tiny_models: Path, loader: str
) -> None:
    server = comfyui_with_pack
    workflow = save(server, drawing(loader, "x"))
    a, b = (pixels(server, run(server, workflow, lora_name=f"mine-{x}")) for x in "ab")
    weights = (tiny_models / "loras" / "lora-b.safetensors").read_bytes()
    upload(server, "/loras", weights, name="mine-a")

    assert pixels(server, run(server, workflow, lora_name="mine-a")) == b != a


@pytest.mark.skipif(sys.platform != "linux", reason="finds the sidecar in /proc")
def test_the_pack_starts_a_killed_sidecar_again_and_the_run_goes_on(
    start_with_pack: ComfyUIsWithPack,
) -> None:
    server = start_with_pack()
    wait_for_sidecar(server)
    prompt = drawing("LoraLoader", "lora-a.safetensors")
    status, accepted = ask(server, "POST", f"{API}/runs", {"workflow_json": prompt})
    assert status == 202

    os.kill(sidecar_pid(server), signal.SIGKILL)
    wait_for_sidecar(server)

    assert ended(server, accepted["id"])["status"] == "succeeded"


def test_a_comfyui_that_dies_finishes_its_runs_when_it_is_back(
    start_with_pack: ComfyUIsWithPack,
) -> None:
    server = start_with_pack()
    wait_for_sidecar(server)
    ids = []
    for seed in range(4):
        prompt = drawing("LoraLoader", "lora-a.safetensors", seed)
        status, accepted = ask(server, "POST", f"{API}/runs", {"workflow_json": prompt})
        assert status == 202
        ids.append(accepted["id"])

    server.kill()
    start_with_pack.start(server)
    wait_for_sidecar(server)

    assert [ended(server, run_id)["status"] for run_id in ids] == ["succeeded"] * 4
    listed = ask(server, "GET", f"{API}/runs")[1]["items"]
    assert sorted(item["id"] for item in listed) == sorted(ids)
    wait_for(server, lambda: ask(server, "GET", "/queue")[1]["queue_running"] == [])

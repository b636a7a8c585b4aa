"""The pack in a real ComfyUI, which launches the real sidecar."""

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from comfyui_server import ComfyUIServer
from dense_graphs import layered
from pack_in_comfyui import (
    API,
    PACK_NAME,
    ComfyUIsWithPack,
    ask,
    drawing,
    pixels,
    queue,
    upload,
    wait_for,
)
from sample_graphs import txt2img

pytestmark = pytest.mark.comfyui


def test_it_loads(comfyui_with_pack: ComfyUIServer) -> None:
    assert (
        f"(IMPORT FAILED): {comfyui_with_pack.base / 'custom_nodes' / PACK_NAME}"
        not in comfyui_with_pack.log()
    )
    info = ask(comfyui_with_pack, "GET", "/object_info/UserLoraLoader")[1]["UserLoraLoader"]
    assert info["input"]["required"]["lora_name"][0] == "COMBO"
    remote = info["input"]["required"]["lora_name"][1]["remote"]
    assert remote == {"route": f"{API}/loras/names", "refresh_button": True}
    assert info["output"] == ["MODEL", "CLIP"]
    assert "UserLoraLoaderModelOnly" in ask(comfyui_with_pack, "GET", "/object_info")[1]


def test_the_sidecar_keeps_its_data_in_the_user_folder(comfyui_with_pack: ComfyUIServer) -> None:
    assert (comfyui_with_pack.base / "user" / "atelier" / "atelier.db").is_file()


@pytest.mark.parametrize("loader", ["LoraLoader", "UserLoraLoader"])
def test_a_new_version_under_an_old_name_is_drawn_at_once_and_only_then(
    comfyui_with_pack: ComfyUIServer, tiny_models: Path, loader: str
) -> None:
    weights = [(tiny_models / "loras" / f"lora-{x}.safetensors").read_bytes() for x in "ab"]
    lora = upload(comfyui_with_pack, "/loras", weights[0])
    name = lora["name"]
    try:
        assert f"{name}.safetensors" in ask(comfyui_with_pack, "GET", f"{API}/loras/names")[1]
        a = queue(comfyui_with_pack, drawing(loader, name))
        a_again = queue(comfyui_with_pack, drawing(loader, f"{name}.safetensors"))
        upload(comfyui_with_pack, f"/loras/{lora['id']}/versions", weights[1])
        b = queue(comfyui_with_pack, drawing(loader, name))
    finally:
        assert ask(comfyui_with_pack, "DELETE", f"{API}/loras/{lora['id']}")[0] == 204

    shared = [
        queue(comfyui_with_pack, drawing("LoraLoader", f"lora-{x}.safetensors")) for x in "ab"
    ]
    assert (
        pixels(comfyui_with_pack, a)
        == pixels(comfyui_with_pack, a_again)
        == pixels(comfyui_with_pack, shared[0])
    )
    assert (
        pixels(comfyui_with_pack, b)
        == pixels(comfyui_with_pack, shared[1])
        != pixels(comfyui_with_pack, a)
    )
    assert a["source"] == "editor"
    assert [pin["version"] for pin in a["loras"] + b["loras"]] == [1, 2]
    assert "lora key not loaded" not in comfyui_with_pack.log()


def test_a_lora_that_is_nowhere_is_refused_in_the_editors_words(
    comfyui_with_pack: ComfyUIServer,
) -> None:
    status, answer = ask(
        comfyui_with_pack, "POST", "/prompt", {"prompt": drawing("UserLoraLoader", "nowhere")}
    )

    assert status == 422
    assert answer["error"]["type"] == "lora_not_found"
    assert "nowhere" in answer["error"]["message"]


def deadly() -> list[dict[str, Any]]:
    """Each stops ComfyUI 0.3.64 for good."""
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    deep: Any = 1
    for _ in range(600):
        deep = [deep]
    chain = {
        f"c{n}": {"class_type": "ImageInvert", "inputs": {"image": [f"c{n + 1}", 0]}}
        for n in range(2000)
    }
    wrapped = {
        f"w{n}": {
            "class_type": "PreviewImage",
            "inputs": {"images": {"__value__": [f"w{n + 1}" if n < 1199 else "1", 0]}},
        }
        for n in range(1200)
    }
    lost = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0], "odd": ["nowhere", 0]}}
    return [
        {"prompt": {**graph, **layered(80)}},
        {"prompt": {**graph, **wrapped}},
        {"prompt": {**graph, "9": lost}},
        {"prompt": graph, "extra_data": None},
        {"prompt": graph, "client_id": ["x"]},
        {"prompt": graph, "extra_data": {"client_id": ["x"]}},
        {"prompt": graph, "extra_data": {"deep": deep}},
        {"prompt": {**graph, "9": {"class_type": "ImageInvert"}}},
        {"prompt": {**graph, **chain}},
        {"prompt": graph, "number": float("nan")},
    ]


def test_deadly_prompts_are_refused_and_comfyui_goes_on(comfyui_with_pack: ComfyUIServer) -> None:
    answers = [ask(comfyui_with_pack, "POST", "/prompt", body) for body in deadly()]

    assert [status for status, _ in answers] == [400] * len(answers)
    graph = drawing("LoraLoader", "lora-a.safetensors", seed=7)
    assert queue(comfyui_with_pack, graph)["status"] == "succeeded"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_the_densest_graph_that_passes_costs_comfyui_less_than_a_gigabyte(
    comfyui_with_pack: ComfyUIServer,
) -> None:
    graph = {"end": {"class_type": "PreviewImage", "inputs": {"images": ["0.0", 0]}}, **layered(25)}
    before = megabytes(comfyui_with_pack, "VmRSS")

    run = queue(comfyui_with_pack, graph)

    assert run["error"]["code"] == "node_failed"  # its nodes have no such inputs
    assert megabytes(comfyui_with_pack, "VmHWM") - before < 1024


def megabytes(server: ComfyUIServer, what: str) -> int:
    """A line of the process's status; VmHWM is the most that VmRSS ever was."""
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) // 1024


def test_a_second_comfyui_on_the_same_data_says_so_and_works_on(
    comfyui_with_pack: ComfyUIServer, start_with_pack: ComfyUIsWithPack
) -> None:
    second = start_with_pack("--user-directory", str(comfyui_with_pack.base / "user"))

    wait_for(second, lambda: "The sidecar cannot work" in second.log())

    assert "ATELIER_DATA_DIR" in second.log()
    assert ask(second, "GET", f"{API}/loras")[0] == 503
    status, _ = ask(second, "POST", "/prompt", {"prompt": txt2img()})
    assert status == 200
    assert "not recorded" in second.log()
    assert ask(comfyui_with_pack, "GET", f"{API}/loras")[0] == 200


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to die of")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_whatever_ends_comfyui_the_sidecar_ends_too(
    start_with_pack: ComfyUIsWithPack, end: signal.Signals
) -> None:
    doomed = start_with_pack()
    wait_for(doomed, lambda: "The sidecar is ready at" in doomed.log())
    port = int(doomed.log().split("The sidecar is ready at http://127.0.0.1:")[1].split(".")[0])

    os.kill(doomed.pid, end)

    wait_for(doomed, lambda: _refuses(port))


def _refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0

"""What is read from ComfyUI's history: outputs of every kind, verdicts, seconds."""

import pytest

from sidecar.comfyui import OutputFile
from sidecar.runs.models import OutputType, Status
from sidecar.runs.outputs import (
    content_type_of,
    gpu_seconds,
    reported_outputs,
    type_of,
    verdict,
)


def entry(name: str, folder: str = "output") -> dict[str, str]:
    return {"filename": name, "subfolder": "day", "type": folder}


def test_files_are_found_under_whatever_key_a_pack_invents() -> None:
    outputs = {
        "8": {"images": [entry("a.png"), entry("b.webp")], "animated": [False, True]},
        "9": {"gifs": [entry("c.mp4") | {"format": "video/h264-mp4", "fullpath": "/x/c.mp4"}]},
        "10": {"audio": [entry("d.flac", "temp")], "3d": [entry("e.glb")]},
    }
    found = reported_outputs(outputs)
    assert [item.filename for item in found] == ["a.png", "b.webp", "c.mp4", "d.flac", "e.glb"]
    assert found[0].file == OutputFile("a.png", "day", "output")
    assert found[3].folder == "temp"


def test_one_file_that_two_nodes_report_is_kept_once() -> None:
    found = reported_outputs({"1": {"images": [entry("a.png")]}, "2": {"a": [entry("a.png")]}})
    assert len(found) == 1


def test_texts_become_text_files() -> None:
    found = reported_outputs({"4": {"text": ["hello", "world"]}})
    assert [(item.filename, item.text) for item in found] == [
        ("text-4-1.txt", "hello"),
        ("text-4-2.txt", "world"),
    ]


@pytest.mark.parametrize(
    "ui", [None, [], "text", {"images": None}, {"images": [None, 3, {"filename": 3}]}, {"a": 5}]
)
def test_what_is_no_output_is_passed_over(ui: object) -> None:
    assert reported_outputs({"1": ui}) == []


@pytest.mark.parametrize(
    ("filename", "kind"),
    [
        ("a.PNG", OutputType.IMAGE),
        ("a.webp", OutputType.IMAGE),
        ("a.mkv", OutputType.VIDEO),
        ("a.flac", OutputType.AUDIO),
        ("a.txt", OutputType.TEXT),
        ("a.json", OutputType.TEXT),
        ("a.latent", OutputType.FILE),
        ("a", OutputType.FILE),
    ],
)
def test_the_type_is_what_a_person_would_call_it(filename: str, kind: OutputType) -> None:
    assert type_of(content_type_of(filename)) is kind


def test_an_error_names_node_and_reason_without_a_traceback() -> None:
    data = {
        "node_id": "6",
        "node_type": "KSampler",
        "exception_type": "ValueError",
        "exception_message": "bad latent\n",
        "traceback": ["File /secret/place"],
    }
    history = {"status": "error", "outputs": {}, "messages": [["execution_error", data]]}
    status, error = verdict(history)
    assert status is Status.FAILED
    assert error is not None
    assert (error.code, error.message, error.node_id) == ("node_failed", "bad latent", "6")
    assert "secret" not in repr(error)


def test_running_out_of_memory_has_a_code_of_its_own() -> None:
    data = {"exception_type": "torch.OutOfMemoryError", "exception_message": "no"}
    _, error = verdict({"status": "error", "messages": [["execution_error", data]]})
    assert error is not None
    assert error.code == "out_of_memory"


def test_an_interrupt_inside_comfyui_is_a_cancel() -> None:
    history = {"status": "error", "messages": [["execution_interrupted", {"node_id": "1"}]]}
    assert verdict(history)[0] is Status.CANCELLED


def test_gpu_seconds_come_from_comfyuis_own_clock() -> None:
    messages = [
        ["execution_start", {"timestamp": 1795341480917}],
        ["execution_cached", {"timestamp": 1795341480918}],
        ["execution_success", {"timestamp": 1795341483417}],
    ]
    assert gpu_seconds({"messages": messages}) == 2.5
    assert gpu_seconds({"messages": []}) is None

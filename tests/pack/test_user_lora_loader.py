"""The loader nodes: from a name to a patched model, and every way not to get there."""

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.model_management  # noqa: TID253 -- the fake
import comfy.utils  # noqa: TID253 -- the fake
import folder_paths  # noqa: TID253 -- the fake
import pytest
from comfy_execution.utils import ExecutionContext, current_executing_context

from nodes import gateway
from nodes.extension import Extension
from nodes.user_lora_loader import UserLoraLoader, UserLoraLoaderModelOnly

PINNED = "user-1/x.00000000.safetensors"


@pytest.fixture(autouse=True)
def loras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ComfyUI's LoRA folder, with one pinned and one shared file; beside it, a secret."""
    folder = tmp_path / "loras"
    for name in (PINNED, "shared/y.safetensors"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(name.encode())
    (tmp_path / "secret.safetensors").write_bytes(b"secret")
    monkeypatch.setattr(folder_paths, "loras", [str(folder)])
    monkeypatch.setattr(comfy.utils, "shown", [])
    monkeypatch.setenv("ATELIER_SIDECAR_URL", "")
    return folder


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[Any]]:
    """Let the sidecar answer with a file or an error; what was asked is in the list."""

    def set_answer(outcome: Any) -> list[Any]:
        asked: list[Any] = []

        def reply(prompt_id: str | None, lora: str, *progress: gateway.Progress) -> Any:
            asked.append((prompt_id, lora))
            for show in progress:
                show(0, 0)
                show(5, 10)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(gateway, "ensure", reply)
        monkeypatch.setattr(gateway, "resolve", reply)
        return asked

    return set_answer


def load(name: str, strength_model: float = 1.0, strength_clip: float = 0.5) -> Any:
    """Run the node."""
    return UserLoraLoader.execute("model", "clip", name, strength_model, strength_clip).args


def test_a_name_becomes_the_file_that_the_sidecar_names(answer: Any) -> None:
    asked = answer(gateway.LoraFile(PINNED, "ab"))
    context = current_executing_context.set(ExecutionContext("p", "2", 0))

    patched = load("x")

    current_executing_context.reset(context)
    assert patched == (("model", PINNED.encode(), 1.0), ("clip", PINNED.encode(), 0.5))
    assert asked == [("p", "x")]
    assert comfy.utils.shown == [(5, 10)]


def test_the_model_only_node_leaves_clips_alone(answer: Any) -> None:
    answer(gateway.LoraFile(PINNED, "ab"))

    assert UserLoraLoaderModelOnly.execute("model", "x", 0.7).args == (
        ("model", PINNED.encode(), 0.7),
    )


def test_strengths_of_zero_change_and_ask_nothing(answer: Any) -> None:
    asked = answer(gateway.LoraFile(PINNED, "ab"))

    assert load("x", 0, 0) == ("model", "clip")
    assert UserLoraLoaderModelOnly.execute("model", "x", 0).args == ("model",)
    assert UserLoraLoader.fingerprint_inputs("x", 0, 0) == "unused"
    assert asked == []


def test_interrupting_stops_the_fetch(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(gateway.LoraFile(PINNED, "ab"))
    monkeypatch.setattr(comfy.model_management, "interrupted", True)

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        load("x")


@pytest.mark.parametrize("name", [PINNED, PINNED.replace("/", "\\"), "shared/y.safetensors"])
def test_without_a_sidecar_what_comfyui_lists_is_loaded(name: str) -> None:
    assert load(name)[0][1] == name.replace("\\", "/").encode()


def test_without_a_sidecar_a_missing_lora_is_named_with_the_remedy() -> None:
    with pytest.raises(RuntimeError, match=r"'x'.*sidecar.*away.*run again"):
        load("x")


def test_a_refusal_names_the_lora_and_the_remedy(answer: Any) -> None:
    answer(gateway.RefusedError("lora_not_found", "No LoRA named 'x'."))

    with pytest.raises(RuntimeError, match=r"'x'.*No LoRA named.*Upload it"):
        load("x")


def test_a_prompt_that_is_nobodys_says_why_and_what_to_do(answer: Any) -> None:
    answer(gateway.RefusedError("sign_in_required", "Sign in to use your LoRAs."))

    with pytest.raises(RuntimeError, match=r"'x'.*Sign in.*away.*Queue it again, signed in"):
        load("x")


def test_a_file_that_comfyui_does_not_see_is_named_with_the_remedy(answer: Any) -> None:
    answer(gateway.LoraFile("user-1/gone.00000000.safetensors", "ab"))

    with pytest.raises(RuntimeError, match=r"'x'.*COMFYUI_LORAS_DIR"):
        load("x")


def test_a_corrupt_file_is_named_with_the_remedy_and_not_by_its_path(
    answer: Any, loras: Path
) -> None:
    (loras / PINNED).write_bytes(b"corrupt")
    answer(gateway.LoraFile(PINNED, "ab"))

    with pytest.raises(RuntimeError, match=r"'x'.*cannot be read.*Delete x.0") as raised:
        load("x")
    assert str(loras) not in str(raised.value)


@pytest.mark.parametrize(
    "path",
    [
        "../secret.safetensors",
        "user-1/../../secret.safetensors",
        "user-1\\..\\..\\secret.safetensors",
    ],
)
def test_no_answer_leads_out_of_the_lora_folder(answer: Any, path: str) -> None:
    answer(gateway.LoraFile(path, "ab"))

    with pytest.raises(RuntimeError, match="does not see"):
        load("x")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "  ",
        "../secret.safetensors",
        "/etc/x",
        "C:\\x",
        "\\\\host\\x",
        "a//b",
        "x" * 600,
        "a\0",
        5,
    ],
)
def test_what_names_no_lora_is_refused_before_and_at_execution(name: Any) -> None:
    assert isinstance(UserLoraLoader.validate_inputs(name), str)
    assert isinstance(UserLoraLoaderModelOnly.validate_inputs(name), str)
    with pytest.raises(ValueError, match="lora_name"):
        load(name)


@pytest.mark.parametrize("name", ["style", "style.safetensors", "sub\\style.safetensors", None])
def test_a_plain_or_linked_name_is_valid_whether_it_is_listed_or_not(name: Any) -> None:
    assert UserLoraLoader.validate_inputs(name) is True


def test_a_pinned_name_is_its_own_fingerprint(answer: Any) -> None:
    asked = answer(gateway.LoraFile(PINNED, "ab"))

    assert UserLoraLoader.fingerprint_inputs(PINNED) == PINNED
    assert asked == []


def test_a_plain_name_changes_with_the_head_version(answer: Any) -> None:
    answer(gateway.LoraFile(PINNED, "ab"))
    first = UserLoraLoader.fingerprint_inputs("x", clip=None, model=None)
    again = UserLoraLoaderModelOnly.fingerprint_inputs("x", model=None)
    answer(gateway.LoraFile(PINNED, "cd"))

    assert (first, again, UserLoraLoader.fingerprint_inputs("x")) == ("ab", "ab", "cd")


def test_a_shared_file_changes_with_its_bytes(loras: Path) -> None:
    before = UserLoraLoader.fingerprint_inputs("shared/y.safetensors")
    (loras / "shared/y.safetensors").write_bytes(b"other")

    assert UserLoraLoader.fingerprint_inputs("shared/y.safetensors") != before


def test_a_refused_or_missing_name_has_a_steady_fingerprint(answer: Any) -> None:
    assert UserLoraLoader.fingerprint_inputs("x") == "missing"
    answer(gateway.RefusedError("lora_not_found", "No."))
    assert UserLoraLoader.fingerprint_inputs("x") == "lora_not_found"


def test_a_linked_name_runs_every_time() -> None:
    assert math.isnan(UserLoraLoader.fingerprint_inputs(None))


async def test_both_nodes_speak_lora_loaders_language() -> None:
    both, only = await Extension().get_node_list()

    names = [each.id for each in both.define_schema().inputs]
    assert names == ["model", "clip", "lora_name", "strength_model", "strength_clip"]
    assert names == list(inspect.signature(both.execute).parameters)
    assert [each.id for each in only.define_schema().inputs] == names[:1] + names[2:4]
    assert both.define_schema().inputs[2].options["remote"].route.endswith("/loras/names")

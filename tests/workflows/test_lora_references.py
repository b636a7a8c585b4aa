"""Finding every LoRA that a prompt names, and putting another name in its place."""

import copy
from pathlib import PurePosixPath
from typing import Any

import pytest
from sample_graphs import LISTED, object_info, txt2img

from sidecar.workflows.graph import (
    LoraReference,
    in_listed_form,
    lora_references,
    replace_loras,
)


def found(
    class_type: str,
    inputs: dict[str, Any],
    *,
    info: dict[str, Any] | None = None,
    listed: list[str] | None = None,
) -> list[tuple[tuple[str, ...], Any]]:
    prompt = {"5": {"class_type": class_type, "inputs": inputs}}
    references = lora_references(
        prompt, object_info() if info is None else info, LISTED if listed is None else listed
    )
    return [(reference.input, reference.value) for reference in references]


def one_class(**inputs: Any) -> dict[str, Any]:
    return {"Custom": {"input": {"required": inputs}}}


def test_a_reference_says_where_it_stands() -> None:
    assert lora_references(txt2img(), object_info(), LISTED) == [
        LoraReference("2", "LoraLoader", ("lora_name",), "lora-a.safetensors")
    ]


@pytest.mark.parametrize(
    "class_type",
    [
        "LoraLoader",
        "LoraLoaderModelOnly",
        "CreateHookLora",
        "UserLoraLoader",
        "UserLoraLoaderModelOnly",
        "ChoiceByComboType",
    ],
)
@pytest.mark.parametrize("value", ["style", "../x", "", 5, None, ["a"], {"a": 1}])
def test_whatever_stands_in_a_loader_is_a_reference_so_that_it_can_be_refused(
    class_type: str, value: Any
) -> None:
    assert found(class_type, {"lora_name": value}) == [(("lora_name",), value)]


def test_a_value_from_another_node_is_no_reference() -> None:
    assert found("UserLoraLoader", {"lora_name": ["4", 0]}) == []
    assert found("LoraLoader", {"lora_name": {"__value__": ["4", 0]}}) == []


def test_a_wrapped_name_is_found_where_comfyui_will_unwrap_it() -> None:
    wrapped = {"lora_name": {"__value__": "style"}}
    assert found("LoraLoader", wrapped) == [(("lora_name", "__value__"), "style")]


@pytest.mark.parametrize("unused", ["None", "none", ""])
@pytest.mark.parametrize(
    ("class_type", "used", "free"),
    [
        ("CR LoRA Stack", "lora_name_1", "lora_name_2"),
        ("Lora Loader Stack (rgthree)", "lora_01", "lora_02"),
        ("TextSlots", "lora_name_1", "lora_name_2"),
    ],
)
def test_the_used_slots_of_a_stack_are_references(
    class_type: str, used: str, free: str, unused: str
) -> None:
    inputs = {used: "style", free: unused, "switch_1": "On", "model_weight_1": 1.0}
    assert found(class_type, inputs) == [((used,), "style")]


def test_a_choice_that_offers_none_in_brackets_may_have_it_chosen() -> None:
    training = {"existing_lora": "[None]", "lora_dtype": "bf16", "algorithm": "lora"}
    assert found("TrainLoraNode", training) == []
    assert found("TrainLoraNode", {**training, "existing_lora": "style"}) == [
        (("existing_lora",), "style")
    ]


def test_none_in_a_plain_loader_is_a_lora_called_none() -> None:
    assert found("LoraLoader", {"lora_name": "None"}) == [(("lora_name",), "None")]


def test_rows_of_the_power_lora_loader_are_references_when_they_are_on() -> None:
    rows = {
        "PowerLoraLoaderHeaderWidget": {"type": "PowerLoraLoaderHeaderWidget"},
        "lora_1": {"on": True, "lora": "style", "strength": 1, "strengthTwo": 0.5},
        "lora_2": {"on": False, "lora": "other", "strength": 1},
        "lora_3": {"on": True, "lora": "None", "strength": 1},
        "lora_4": {"on": True, "lora": None, "strength": 1},
        "lora_5": {"on": True, "lora": 5, "strength": 1},
        "\u2795 Add Lora": "",
        "model": ["1", 0],
    }
    assert found("Power Lora Loader (rgthree)", rows) == [
        (("lora_1", "lora"), "style"),
        (("lora_5", "lora"), 5),
    ]


@pytest.mark.parametrize("link", [["4", 0], {"__value__": ["4", 0]}])
def test_a_link_inside_of_a_row_is_followed_by_nobody_and_so_a_reference_to_refuse(
    link: Any,
) -> None:
    rows = {"lora_1": {"on": True, "lora": link, "strength": 1}}
    assert found("Power Lora Loader (rgthree)", rows) == [(("lora_1", "lora"), link)]


def test_an_input_with_an_unlikely_name_is_found_by_its_choices() -> None:
    info = one_class(style_file=[["None", *LISTED]])
    assert found("Custom", {"style_file": "mine"}, info=info) == [(("style_file",), "mine")]


def test_a_list_that_changed_between_two_questions_is_still_recognised() -> None:
    info = one_class(style_file=[[*LISTED[:-1], "evicted.safetensors"]])
    listed = [*LISTED, "new.safetensors"]
    assert found("Custom", {"style_file": "mine"}, info=info, listed=listed) == [
        (("style_file",), "mine")
    ]


def test_an_input_called_like_one_is_found_while_no_lora_is_listed() -> None:
    assert found("Custom", {"lora_name": "mine"}, info=one_class(lora_name=[[]]), listed=[]) == [
        (("lora_name",), "mine")
    ]


def test_a_choice_from_a_remote_list_is_found_by_its_name() -> None:
    info = one_class(lora_name=["COMBO", {"remote": {"route": "/x"}}])
    assert found("Custom", {"lora_name": "mine"}, info=info) == [(("lora_name",), "mine")]


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("lora", [["enable", "disable"]]),
        ("lora_dtype", [["bf16", "fp32"]]),
        ("use_lora", ["BOOLEAN", {}]),
        ("lora", ["STRING", {"multiline": True}]),
        ("lora_strength", ["FLOAT", {}]),
        ("sampler_name", [["euler", "ddim"]]),
        ("model", [["lora-a.safetensors", *(f"ckpt-{n}.safetensors" for n in range(9))]]),
    ],
)
def test_other_inputs_are_not_mistaken_for_loras(name: str, spec: list[Any]) -> None:
    assert found("Custom", {name: "lora-a.safetensors"}, info=one_class(**{name: spec})) == []


def test_a_checkpoint_that_is_called_like_a_lora_stays_a_checkpoint() -> None:
    info = one_class(ckpt_name=[["lora-a.safetensors"]])
    assert found("Custom", {"ckpt_name": "lora-a.safetensors"}, info=info) == []


def test_an_undeclared_input_counts_when_it_plainly_is_a_file() -> None:
    inputs = {"lora_1": "x.safetensors", "lora_2": "", "lora_3": "left over", "text": "y.ckpt"}
    info: dict[str, Any] = {"Custom": {"input": {}}}
    assert found("Custom", inputs, info=info) == [(("lora_1",), "x.safetensors")]


@pytest.mark.parametrize(
    "name",
    ["style@2", "style@2.safetensors", "style.safetensors@2", "@ann@example.org/style@2"],
)
@pytest.mark.parametrize(
    "class_type",
    ["LoraLoader", "LoraLoaderModelOnly", "CreateHookLora", "UserLoraLoader", "Undeclared"],
)
def test_a_version_and_another_s_lora_are_references_in_every_loader(
    class_type: str, name: str
) -> None:
    info = {**object_info(), "Undeclared": {"input": {}}}
    assert found(class_type, {"lora_name": name}, info=info) == [(("lora_name",), name)]


@pytest.mark.parametrize("name", ["style@2", "@ann@example.org/style"])
def test_a_version_and_another_s_lora_are_references_in_rows_and_stacks(name: str) -> None:
    row = {"on": True, "lora": name, "strength": 1.0}
    power = found("Power Lora Loader (rgthree)", {"lora_1": row})
    assert power == [(("lora_1", "lora"), name)]


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        {},
        {"input": None},
        {"input": {"required": []}},
        {"input": {"required": {"lora_name": None}}},
    ],
)
def test_an_object_info_of_another_shape_finds_nothing(broken: Any) -> None:
    assert found("Custom", {"lora_name": "x"}, info={"Custom": broken}) == []


def test_names_are_replaced_in_a_copy() -> None:
    prompt = txt2img()
    prompt["9"] = {
        "class_type": "Power Lora Loader (rgthree)",
        "inputs": {"lora_1": {"on": True, "lora": "style", "strength": 1}},
    }
    before = copy.deepcopy(prompt)
    references = lora_references(prompt, object_info(), LISTED)
    replaced = replace_loras(prompt, dict(zip(references, ["new-a", "new-style"], strict=True)))
    assert replaced["2"]["inputs"]["lora_name"] == "new-a"
    assert replaced["9"]["inputs"]["lora_1"] == {"on": True, "lora": "new-style", "strength": 1}
    assert prompt == before


def test_a_reference_whose_value_cannot_be_hashed_can_be_replaced() -> None:
    prompt = {"1": {"class_type": "LoraLoader", "inputs": {"lora_name": ["a"]}}}
    (reference,) = lora_references(prompt, object_info(), LISTED)
    assert replace_loras(prompt, {reference: "x"})["1"]["inputs"]["lora_name"] == "x"


PINNED = PurePosixPath("user-1/style.0a1b2c3d.safetensors")


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ([], "user-1/style.0a1b2c3d.safetensors"),
        (["a.safetensors"], "user-1/style.0a1b2c3d.safetensors"),
        (["user-1/style.0a1b2c3d.safetensors"], "user-1/style.0a1b2c3d.safetensors"),
        (["user-1\\style.0a1b2c3d.safetensors"], "user-1\\style.0a1b2c3d.safetensors"),
        (["styles\\ink.safetensors"], "user-1\\style.0a1b2c3d.safetensors"),
        (["styles/ink.safetensors", "odd\\name.pt"], "user-1/style.0a1b2c3d.safetensors"),
    ],
)
def test_a_file_is_named_as_this_comfyui_lists_it(listed: list[str], expected: str) -> None:
    assert in_listed_form(PINNED, listed) == expected

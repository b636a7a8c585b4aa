"""A run's parameters: which input each name means, and which values fit."""

import copy
from typing import Any

import pytest
from sample_graphs import LISTED, object_info, txt2img

from sidecar.errors import InvalidError
from sidecar.workflows.graph import DeclaredInput, apply_inputs

Params = dict[str, Any]


def applied(params: Params, *declared: DeclaredInput, prompt: Params | None = None) -> Params:
    prompt = txt2img() if prompt is None else prompt
    return apply_inputs(prompt, declared, params, object_info(), LISTED)


def refusal(params: Params, *declared: DeclaredInput, prompt: Params | None = None) -> InvalidError:
    with pytest.raises(InvalidError) as caught:
        applied(params, *declared, prompt=prompt)
    return caught.value


def many_choices(**inputs: Any) -> Params:
    return {"1": {"class_type": "ManyChoices", "inputs": inputs}}


STEPS = DeclaredInput(name="quality", node="6", input="steps", type="int", min=1, max=50)


def test_the_given_prompt_is_not_touched() -> None:
    prompt = txt2img()
    before = copy.deepcopy(prompt)
    applied({"seed": 5, "3.text": "a dog"}, prompt=prompt)
    assert prompt == before


def test_without_parameters_the_prompt_stays_as_it_is() -> None:
    assert applied({}) == txt2img()


def test_a_bare_name_sets_the_one_input_of_that_name() -> None:
    assert applied({"seed": 7})["6"]["inputs"]["seed"] == 7


def test_a_bare_name_of_two_inputs_is_refused_with_the_candidates() -> None:
    error = refusal({"text": "a dog"})
    assert error.code == "ambiguous_input"
    assert error.details["candidates"] == {"text": ["3.text", "4.text"]}


def test_a_node_and_an_input_set_exactly_that_one() -> None:
    prompt = applied({"3.text": "a dog"})
    assert (prompt["3"]["inputs"]["text"], prompt["4"]["inputs"]["text"]) == ("a dog", "bad")


def test_a_declared_name_comes_before_everything_else() -> None:
    declared = DeclaredInput(name="seed", node="6", input="steps", type="int")
    inputs = applied({"seed": 9}, declared)["6"]["inputs"]
    assert (inputs["steps"], inputs["seed"]) == (9, 1)


def test_node_ids_and_input_names_may_hold_dots() -> None:
    prompt = {
        "a.b": {"class_type": "NoSuch", "inputs": {"x": 1}},
        "7:2": {"class_type": "NoSuch", "inputs": {"images.image0": "x"}},
    }
    changed = applied({"a.b.x": 2, "images.image0": "y"}, prompt=prompt)
    assert changed["a.b"]["inputs"]["x"] == 2
    assert changed["7:2"]["inputs"]["images.image0"] == "y"


def test_an_unknown_name_is_refused_with_what_exists() -> None:
    error = refusal({"sed": 1, "77.seed": 1, "6.sed": 1}, STEPS)
    assert error.code == "unknown_input"
    assert set(error.details["fields"]) == {"sed", "77.seed", "6.sed"}
    assert {"quality", "6.seed", "3.text"} <= set(error.details["available"])
    assert "6.model" not in error.details["available"]


def test_an_input_that_the_class_knows_can_be_added_by_its_full_name() -> None:
    prompt = txt2img()
    del prompt["6"]["inputs"]["denoise"]
    assert applied({"6.denoise": 0.5}, prompt=prompt)["6"]["inputs"]["denoise"] == 0.5


def test_a_bare_name_never_replaces_a_connection() -> None:
    prompt = txt2img()
    prompt["6"]["inputs"]["seed"] = ["1", 0]
    error = refusal({"seed": 3}, prompt=prompt)
    assert error.code == "unknown_input"
    assert "6.seed" in error.details["fields"]["seed"]


def test_a_full_name_replaces_the_connection_of_an_input_that_takes_values() -> None:
    prompt = txt2img()
    prompt["6"]["inputs"]["seed"] = ["1", 0]
    assert applied({"6.seed": 3}, prompt=prompt)["6"]["inputs"]["seed"] == 3


@pytest.mark.parametrize("value", ["x", 5, {"a": 1}])
def test_an_input_that_takes_only_connections_is_left_connected(value: Any) -> None:
    assert "MODEL" in refusal({"6.model": value}).details["fields"]["6.model"]


@pytest.mark.parametrize("value", [["4", 0], {"__value__": ["4", 0]}])
def test_a_value_that_is_a_connection_is_refused(value: Any) -> None:
    assert "connection" in refusal({"3.text": value}).details["fields"]["3.text"]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("seed", "7", "whole number"),
        ("seed", 7.5, "whole number"),
        ("seed", True, "whole number"),
        ("seed", None, "whole number"),
        ("seed", -1, "at least 0"),
        ("seed", 2**64, "at most"),
        ("cfg", "4", "number"),
        ("cfg", False, "number"),
        ("cfg", 101, "at most 100"),
        ("cfg", float("nan"), "NaN"),
        ("cfg", float("-inf"), "infinite"),
        ("3.text", 5, "text"),
        ("3.text", None, "text"),
        ("sampler_name", "magic", "euler"),
        ("ckpt_name", "other.ckpt", "choices"),
        ("lora_name", 5, "name"),
        ("lora_name", None, "name"),
    ],
)
def test_a_value_must_fit_what_comfyui_says_of_the_input(name: str, value: Any, says: str) -> None:
    error = refusal({name: value})
    assert error.code == "invalid_input"
    assert says in error.details["fields"][name]


@pytest.mark.parametrize(
    ("name", "value"),
    [("cfg", 4), ("cfg", 4.5), ("seed", 2**64 - 1), ("sampler_name", "ddim"), ("3.text", "")],
)
def test_a_value_that_fits_is_set(name: str, value: Any) -> None:
    prompt = applied({name: value})
    node, _, name = name.rpartition(".")
    assert prompt[node or "6"]["inputs"][name] == value


def test_a_list_of_files_is_not_told_to_the_caller() -> None:
    error = refusal({"ckpt_name": "x"})
    assert "tiny-sd15" not in str(error.details) + error.message


@pytest.mark.parametrize("name", ["mine", "mine@2", "mine.safetensors@2", "@ann@example.org/x@2"])
def test_a_lora_need_not_be_in_comfyuis_list(name: str) -> None:
    assert applied({"lora_name": name})["2"]["inputs"]["lora_name"] == name


def test_an_uploaded_image_need_not_be_in_comfyuis_list() -> None:
    prompt = {"1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}}}
    assert applied({"image": "new.png"}, prompt=prompt)["1"]["inputs"]["image"] == "new.png"
    assert refusal({"image": 5}, prompt=prompt).code == "invalid_input"


def test_a_name_for_a_row_of_the_power_lora_loader_replaces_the_rows_lora() -> None:
    row = {"on": True, "lora": "old", "strength": 0.7}
    prompt = {"1": {"class_type": "Power Lora Loader (rgthree)", "inputs": {"lora_1": row}}}
    declared = DeclaredInput(name="style", node="1", input="lora_1", type="lora")
    assert applied({"style": "new"}, declared, prompt=prompt)["1"]["inputs"]["lora_1"] == {
        "on": True,
        "lora": "new",
        "strength": 0.7,
    }
    assert applied({"lora_1": {"on": False, "lora": "x"}}, prompt=prompt)["1"]["inputs"] == {
        "lora_1": {"on": False, "lora": "x"}
    }
    assert refusal({"lora_1": 5}, prompt=prompt).code == "invalid_input"


def test_several_choices_reach_comfyui_in_the_form_that_is_no_connection() -> None:
    prompt = applied({"styles": ["ink", "oil"]}, prompt=many_choices(styles={"__value__": ["ink"]}))
    assert prompt["1"]["inputs"]["styles"] == {"__value__": ["ink", "oil"]}
    bad = refusal({"styles": ["ink", "lead"]}, prompt=many_choices(styles="ink"))
    assert "ink, oil, chalk" in bad.details["fields"]["styles"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("number", 1.5), ("number", 2), ("anything", "x"), ("curve", {"points": [1]}), ("flag", True)],
)
def test_inputs_of_several_or_unheard_of_kinds_take_what_fits(name: str, value: Any) -> None:
    present = {"number": 1, "anything": 1, "curve": {}, "flag": False}
    assert applied({name: value}, prompt=many_choices(**present))["1"]["inputs"][name] == value


@pytest.mark.parametrize(("name", "value"), [("number", "x"), ("number", 10), ("flag", 1)])
def test_inputs_of_several_kinds_refuse_what_fits_none(name: str, value: Any) -> None:
    assert refusal({name: value}, prompt=many_choices(number=1, flag=False)).code == "invalid_input"


def test_a_declared_bound_holds_as_well_as_comfyuis_own() -> None:
    assert applied({"quality": 50}, STEPS)["6"]["inputs"]["steps"] == 50
    assert "at most 50" in refusal({"quality": 51}, STEPS).details["fields"]["quality"]
    generous = DeclaredInput(name="quality", node="6", input="steps", type="int")
    assert "at most" in refusal({"quality": 10**6}, generous).details["fields"]["quality"]


@pytest.mark.parametrize(
    ("kind", "node", "name", "good", "bad"),
    [
        ("string", "3", "text", "a dog", 5),
        ("int", "6", "steps", 3, 3.0),
        ("float", "6", "cfg", 3, "3"),
        ("lora", "2", "lora_name", "mine", 5),
    ],
)
def test_a_declared_type_is_checked(kind: Any, node: str, name: str, good: Any, bad: Any) -> None:
    declared = DeclaredInput(name="p", node=node, input=name, type=kind)
    assert applied({"p": good}, declared)[node]["inputs"][name] == good
    assert set(refusal({"p": bad}, declared).details["fields"]) == {"p"}


def test_a_declared_choice_takes_only_its_own_choices() -> None:
    declared = DeclaredInput(name="size", node="5", input="width", type="choice", choices=[64, 512])
    assert applied({"size": 512}, declared)["5"]["inputs"]["width"] == 512
    assert "64, 512" in refusal({"size": 256}, declared).details["fields"]["size"]


def test_true_is_not_the_choice_one() -> None:
    declared = DeclaredInput(name="p", node="5", input="width", type="choice", choices=[1, 512])
    assert refusal({"p": True}, declared).code == "invalid_input"


def test_a_default_is_used_when_the_run_says_nothing() -> None:
    declared = DeclaredInput(name="look", node="3", input="text", type="string", default="a bird")
    assert applied({}, declared)["3"]["inputs"]["text"] == "a bird"
    assert applied({"look": "a dog"}, declared)["3"]["inputs"]["text"] == "a dog"


def test_a_default_gives_way_to_the_input_named_in_full() -> None:
    declared = DeclaredInput(name="look", node="3", input="text", type="string", default="a bird")
    assert applied({"3.text": "a dog"}, declared)["3"]["inputs"]["text"] == "a dog"


def test_two_names_for_one_input_are_refused() -> None:
    error = refusal({"seed": 1, "6.seed": 2})
    assert error.details["fields"] == {"6.seed": "sets the same input as seed"}


def test_every_problem_is_told_at_once() -> None:
    error = refusal({"text": "x", "nope": 1, "seed": "x", "quality": 99}, STEPS)
    assert error.code == "ambiguous_input"
    assert set(error.details["fields"]) == {"text", "nope", "seed", "quality"}
    assert "available" in error.details


def test_names_in_bulk_are_answered_like_one() -> None:
    error = refusal({f"no.such.{number}": 1 for number in range(20_000)} | {"." * 500_000: 1})
    assert (error.code, len(error.details["fields"])) == ("unknown_input", 20_001)
    assert len(error.details["available"]) <= 200

"""The shape of a prompt: what may reach ComfyUI, and what stops it."""

import copy
from typing import Any

import pytest
from dense_graphs import layered, serial, under
from sample_graphs import object_info, txt2img

from sidecar.errors import InvalidError
from sidecar.workflows.graph import require_prompt, unknown_classes
from sidecar.workflows.prompt_shape import MAX_CHAIN, MAX_COPIES, MAX_NODES


def refusal(value: Any) -> InvalidError:
    with pytest.raises(InvalidError) as caught:
        require_prompt(value)
    return caught.value


def node(**inputs: Any) -> dict[str, Any]:
    return {"class_type": "Any", "inputs": inputs}


def test_a_prompt_in_api_format_passes_unchanged() -> None:
    prompt = txt2img()
    assert require_prompt(prompt) == prompt


def test_the_given_prompt_is_not_touched() -> None:
    prompt = txt2img()
    prompt["1"]["is_changed"] = ["x"]
    before = copy.deepcopy(prompt)
    require_prompt(prompt)
    assert prompt == before


def test_only_what_comfyui_reads_is_kept_of_a_node() -> None:
    given = {"1": {**node(a=1), "is_changed": ["stale"], "mode": 4, "_meta": {"title": "A"}}}
    assert require_prompt(given) == {"1": {**node(a=1), "_meta": {"title": "A"}}}


def test_a_meta_that_is_no_object_is_dropped() -> None:
    assert require_prompt({"1": {**node(), "_meta": "title"}}) == {"1": node()}


@pytest.mark.parametrize("value", [None, [], {}, "prompt", 5, True])
def test_a_prompt_is_an_object_with_nodes(value: Any) -> None:
    assert refusal(value).code == "invalid_prompt"


def test_the_editors_own_format_is_refused_with_the_way_to_the_other_one() -> None:
    error = refusal({"last_node_id": 8, "nodes": [{"id": 1}], "links": []})
    assert error.code == "ui_graph"
    assert "Export (API)" in error.message


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("a text", "object"),
        (None, "object"),
        ([], "object"),
        ({"inputs": {}}, "class_type"),
        ({"class_type": ["KSampler"], "inputs": {}}, "class_type"),
        ({"class_type": "", "inputs": {}}, "class_type"),
        ({"class_type": "x" * 301, "inputs": {}}, "class_type"),
        ({"class_type": "KSampler"}, "inputs"),
        ({"class_type": "KSampler", "inputs": []}, "inputs"),
        ({"class_type": "KSampler", "inputs": None}, "inputs"),
        ({"class_type": "KSampler", "inputs": {"cfg": float("nan")}}, "NaN"),
        ({"class_type": "KSampler", "inputs": {"deep": [{"x": [float("inf")]}]}}, "NaN"),
    ],
)
def test_a_node_of_another_shape_is_named_although_no_output_needs_it(bad: Any, says: str) -> None:
    error = refusal({**txt2img(), "99": bad})
    assert error.code == "invalid_prompt"
    assert set(error.details["nodes"]) == {"99"}
    assert says in error.details["nodes"]["99"]


def test_every_bad_node_is_named_at_once() -> None:
    assert set(refusal({"1": 1, "2": node(), "3": {}}).details["nodes"]) == {"1", "3"}


@pytest.mark.parametrize("node_id", ["", "x" * 101])
def test_a_node_id_of_no_sane_length_is_refused(node_id: str) -> None:
    assert refusal({node_id: node()}).code == "invalid_prompt"


def test_node_ids_of_subgraphs_are_accepted() -> None:
    assert "57:12:8" in require_prompt({"57:12:8": node()})


def test_too_many_nodes_are_refused() -> None:
    nodes = {str(n): node() for n in range(MAX_NODES)}
    require_prompt(nodes)
    assert str(MAX_NODES) in refusal({**nodes, "more": node()}).message


def test_a_link_to_a_node_that_is_not_there_names_both() -> None:
    error = refusal({"1": node(model=["7", 0], clip=["2", 0]), "2": node()})
    assert error.code == "invalid_prompt"
    assert list(error.details["nodes"]) == ["1"]
    assert "model" in error.details["nodes"]["1"]
    assert "7" in error.details["nodes"]["1"]


def test_a_wrapped_link_is_a_link_since_comfyui_unwraps_it() -> None:
    assert refusal({"1": node(model={"__value__": ["7", 0]})}).code == "invalid_prompt"


@pytest.mark.parametrize("value", [["a"], ["a", "b"], [1, 2], ["7", 0, 1], ["a", None]])
def test_a_list_that_is_no_link_is_a_value(value: Any) -> None:
    assert require_prompt({"1": node(x=value)})["1"]["inputs"]["x"] == value


def test_a_node_that_needs_itself_is_a_cycle() -> None:
    error = refusal({"1": node(x=["1", 0])})
    assert error.code == "cyclic_prompt"
    assert set(error.details["nodes"]) == {"1"}


def test_a_cycle_names_its_nodes_and_no_others() -> None:
    prompt = {
        "start": node(),
        "a": node(x=["start", 0], y=["c", 0]),
        "b": node(x=["a", 0]),
        "c": node(x=["b", 0]),
        "after": node(x=["c", 0]),
    }
    assert set(refusal(prompt).details["nodes"]) == {"a", "b", "c"}


def test_two_links_between_the_same_nodes_are_no_cycle() -> None:
    require_prompt({"1": node(), "2": node(a=["1", 0], b=["1", 1])})


def test_a_chain_longer_than_comfyui_can_follow_is_refused() -> None:
    chain = {"0": node()}
    chain |= {str(n): node(x=[str(n - 1), 0]) for n in range(1, MAX_CHAIN + 1)}
    require_prompt(chain)
    error = refusal({**chain, "last": node(x=[str(MAX_CHAIN), 0])})
    assert error.code == "invalid_prompt"
    assert set(error.details["nodes"]) == {"last"}


def test_unknown_node_classes_are_listed_with_their_nodes() -> None:
    prompt = {**txt2img(), "50": {"class_type": "NotInstalled", "inputs": {}}}
    assert unknown_classes(prompt, object_info()) == [("50", "NotInstalled")]


@pytest.mark.parametrize(
    "dense",
    [layered(80), layered(30, plain=20), under(5000, 300), {"1": node(a=[0] * MAX_COPIES)}],
    ids=["many links", "many numbers", "one long list", "a longer one"],
)
def test_a_graph_that_would_eat_comfyuis_memory_is_refused(dense: dict[str, Any]) -> None:
    error = refusal(dense)
    assert (error.code, error.details) == ("prompt_too_dense", {"max_copies": MAX_COPIES})


@pytest.mark.parametrize("graph", [serial(350), layered(25), under(5000, 100)])
def test_a_graph_of_a_few_hundred_nodes_passes(graph: dict[str, Any]) -> None:
    assert require_prompt(graph) == graph

"""Prompts that would stop ComfyUI, and those that look alarming and are not."""

from typing import Any

import pytest
from dense_graphs import layered, serial, under

from server_routes.prompt_shape import (
    MAX_CHAIN,
    MAX_COPIES,
    MAX_DEPTH,
    MAX_NODES,
    copies_of,
    flaw_in,
    longest_chain,
)

NODE = {"class_type": "X", "inputs": {}}


def nested(depth: int) -> Any:
    """Lists in lists."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def chain(length: int) -> dict[str, Any]:
    """Nodes one behind the other."""
    return {
        str(n): {"class_type": "X", "inputs": {"a": [str(n + 1), 0]} if n + 1 < length else {}}
        for n in range(length)
    }


def wrapped_chain(length: int) -> dict[str, Any]:
    """The same with links that ComfyUI sees only once it has taken off their wrapping."""
    prompt = chain(length)
    for node in prompt.values():
        node["inputs"] = {name: {"__value__": link} for name, link in node["inputs"].items()}
    return prompt


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"extra_data": None}, "invalid_extra_data"),
        ({"extra_data": []}, "invalid_extra_data"),
        ({"client_id": ["x"]}, "invalid_client_id"),
        ({"client_id": {}}, "invalid_client_id"),
        ({"extra_data": {"client_id": ["x"]}}, "invalid_client_id"),
        ({"number": float("nan")}, "invalid_number"),
        ({"number": "nan"}, "invalid_number"),
        ({"number": "inf"}, "invalid_number"),
        ({"number": 10**400}, "invalid_number"),
        ({"number": None}, "invalid_number"),
        ({"extra_data": {"a": [float("inf")]}}, "invalid_number"),
        ({"prompt": None}, "invalid_prompt"),
        ({"prompt": []}, "invalid_prompt"),
        ({"prompt": {"1": "node"}}, "invalid_prompt"),
        ({"prompt": {"1": {"class_type": "X"}}}, "invalid_prompt"),
        ({"prompt": {"1": {"class_type": "X", "inputs": []}}}, "invalid_prompt"),
        ({"prompt": {"1": {"class_type": "X", "inputs": None}}}, "invalid_prompt"),
        ({"prompt": {"1": {"class_type": ["X"], "inputs": {}}}}, "invalid_prompt"),
        ({"prompt": {"1": {"inputs": {}}}}, "invalid_prompt"),
        ({"extra_data": {"a": nested(MAX_DEPTH)}}, "prompt_too_deep"),
        ({"prompt": chain(MAX_CHAIN + 1)}, "prompt_too_long"),
        ({"prompt": wrapped_chain(MAX_CHAIN + 1)}, "prompt_too_long"),
        ({"prompt": layered(80)}, "prompt_too_dense"),
        ({"prompt": layered(30, plain=20)}, "prompt_too_dense"),
        ({"prompt": under(5000, 300)}, "prompt_too_dense"),
        ({"prompt": {"1": {**NODE, "inputs": {"a": [0] * MAX_COPIES}}}}, "prompt_too_dense"),
        ({"prompt": {str(n): NODE for n in range(MAX_NODES + 1)}}, "prompt_too_large"),
        ({"prompt": {"1": {**NODE, "inputs": {"a": ["nowhere", 0]}}}}, "invalid_prompt"),
        (
            {"prompt": {"1": {**NODE, "inputs": {"a": {"__value__": ["nowhere", 0.5]}}}}},
            "invalid_prompt",
        ),
    ],
)
def test_a_deadly_prompt_is_recognised(body: dict[str, Any], kind: str) -> None:
    flaw = flaw_in({"prompt": {"1": NODE}, **body})

    assert flaw is not None
    assert flaw.type == kind


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"prompt": {}},
        {"prompt": {"1": NODE}, "client_id": None, "number": -1e9, "front": True},
        {"prompt": {"1": NODE}, "number": "7"},
        {"prompt": serial(350)},
        {"prompt": layered(25)},
        {"prompt": under(5000, 100)},
        {"prompt": {str(n): NODE for n in range(MAX_NODES)}},
        {"prompt": chain(MAX_CHAIN)},
        {"prompt": wrapped_chain(MAX_CHAIN)},
        {"prompt": {"1": {**NODE, "inputs": {"a": nested(50)}}}},
        {"prompt": {"1": {**NODE, "inputs": {"a": ["nowhere", "0"], "b": [["1"], 0]}}}},
        {"prompt": {"1": {**NODE, "inputs": {"a": ["1", 0]}}}},
    ],
)
def test_what_comfyui_bears_is_left_to_it(body: dict[str, Any]) -> None:
    assert flaw_in(body) is None


def test_the_longest_chain_is_found_whatever_the_order() -> None:
    straight = chain(300)
    mixed = dict(sorted(straight.items(), key=lambda item: hash(item[0])))

    assert longest_chain(straight) == longest_chain(mixed) == 300
    assert longest_chain(dict(reversed(straight.items()))) == 300


def test_a_circle_counts_as_long_as_the_prompt() -> None:
    circle = {
        "1": {"class_type": "X", "inputs": {"a": ["2", 0]}},
        "2": {"class_type": "X", "inputs": {"a": ["1", 0]}},
        "3": NODE,
    }

    assert longest_chain(circle) == 3


def test_many_ways_to_the_same_node_are_walked_once() -> None:
    wide = {
        str(n): {
            "class_type": "X",
            "inputs": {k: [str(n + 1), 0] for k in "abcd"} if n < 99 else {},
        }
        for n in range(100)
    }

    assert longest_chain(wide) == 100


def test_a_value_is_copied_for_its_own_node_and_for_each_behind_it() -> None:
    prompt = {
        "a": {"class_type": "X", "inputs": {"x": 1}},  # {}, 1: twice copied, itself and two behind
        "b": {"class_type": "X", "inputs": {"l": ["a", 0]}},  # {}, [], "a", 0
        "c": {"class_type": "X", "inputs": {"l": ["b", 0], "m": {"__value__": ["a", 0]}}},
    }

    assert copies_of(prompt) == 3 * 2 + 2 * 4 + (1 + 3 + 4)


def test_in_a_circle_every_node_counts_as_behind_every_other() -> None:
    everyone = {f"i{n}": [str(n), 0] for n in range(150)}
    prompt = {str(n): {"class_type": "X", "inputs": everyone} for n in range(150)}

    flaw = flaw_in({"prompt": prompt})

    assert flaw is not None
    assert flaw.type == "prompt_too_dense"

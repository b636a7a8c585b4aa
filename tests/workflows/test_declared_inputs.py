"""What a workflow may declare about its parameters."""

from typing import Any

import pytest
from pydantic import ValidationError
from sample_graphs import txt2img

from sidecar.errors import InvalidError
from sidecar.workflows.graph import DeclaredInput, refuse_unknown_targets

SEED = {"name": "seed", "node": "6", "input": "seed", "type": "int"}


@pytest.mark.parametrize(
    "changes",
    [
        {"min": 0, "max": 9, "default": 5, "label": "Seed"},
        {"type": "float", "min": 0.5},
        {"type": "choice", "choices": ["a", 1, 1.5, True], "default": 1.5},
        {"type": "string", "default": ""},
        {"type": "lora", "default": "style"},
        {"type": "bool", "default": False},
    ],
)
def test_a_sensible_declaration_is_taken(changes: dict[str, Any]) -> None:
    DeclaredInput.model_validate({**SEED, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "x" * 201},
        {"node": 6},
        {"type": "number"},
        {"extra": 1},
        {"min": 9, "max": 0},
        {"min": True},
        {"min": float("nan")},
        {"min": "0"},
        {"default": 1.5},
        {"default": True},
        {"default": 10, "max": 9},
        {"choices": [1]},
        {"type": "choice"},
        {"type": "choice", "choices": []},
        {"type": "choice", "choices": [float("inf")]},
        {"type": "choice", "choices": ["a"], "default": "b"},
        {"type": "string", "max": 5},
        {"type": "image", "default": ""},
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DeclaredInput.model_validate({**SEED, **changes})


def test_each_wrong_target_is_named() -> None:
    declared = [
        DeclaredInput.model_validate({**SEED, **changes})
        for changes in (
            {},
            {"name": "gone", "node": "77"},
            {"name": "typo", "input": "sed"},
            {"name": "again"},
            {"name": "seed", "input": "cfg"},
        )
    ]
    with pytest.raises(InvalidError) as caught:
        refuse_unknown_targets(txt2img(), declared)
    assert caught.value.code == "invalid_inputs"
    assert caught.value.details["fields"] == {
        "gone": "there is no node 77",
        "typo": "node 6 has no input sed",
        "again": "sets the same input as seed",
        "seed": "declared twice",
    }


@pytest.mark.parametrize(("choice", "value"), [(1, True), (True, 1), (0, False), ("1", 1)])
def test_a_choice_is_not_mistaken_for_another_kind_of_value(choice: Any, value: Any) -> None:
    declared = DeclaredInput.model_validate({**SEED, "type": "choice", "choices": [choice]})
    assert declared.problem_with(choice) is None
    assert declared.problem_with(value) is not None

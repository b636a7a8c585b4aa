"""The typed parameters that a workflow names for itself."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator

from ..errors import InvalidError
from .prompt_shape import MAX_ID_LENGTH

Number = StrictInt | Annotated[float, Field(strict=True, allow_inf_nan=False)]
InputType = Literal["string", "int", "float", "bool", "image", "lora", "choice"]

_EXPECTED: Mapping[str, str] = {
    "string": "expected a text",
    "int": "expected a whole number",
    "float": "expected a number",
    "bool": "expected true or false",
    "image": "expected the name of an image",
    "lora": "expected the name of a LoRA",
}


class DeclaredInput(BaseModel):
    """A parameter: its name, its type, and the input of the node that it sets.

    ``min`` and ``max`` are for numbers, ``choices`` for the type ``choice``. Without a ``default``
    the value in the workflow stays when a run does not name the parameter.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=200)
    node: str = Field(min_length=1, max_length=MAX_ID_LENGTH)
    input: str = Field(min_length=1, max_length=200)
    type: InputType
    default: Any = None
    min: Number | None = None
    max: Number | None = None
    choices: list[StrictBool | Number | StrictStr] | None = Field(
        default=None, min_length=1, max_length=1000
    )
    label: str | None = Field(default=None, max_length=200)

    @model_validator(mode="after")
    def _fits_together(self) -> "DeclaredInput":
        if (self.min is not None or self.max is not None) and self.type not in ("int", "float"):
            raise ValueError("min and max are for numbers")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is larger than max")
        if (self.choices is not None) != (self.type == "choice"):
            raise ValueError("choices belong to the type 'choice', which needs them")
        if self.default is not None and (problem := self.problem_with(self.default)):
            raise ValueError(f"default: {problem}")
        return self

    def problem_with(self, value: Any) -> str | None:
        """Why the declared type does not take ``value``; None when it does."""
        if self.type == "choice":
            choices = self.choices or []
            if any(same_value(value, choice) for choice in choices):
                return None
            return f"expected one of {', '.join(repr(choice) for choice in choices[:50])}"
        fits = {
            "int": is_whole(value),
            "float": is_number(value),
            "bool": isinstance(value, bool),
            "image": isinstance(value, str) and value != "",
        }.get(self.type, isinstance(value, str))
        return outside(value, self.min, self.max) if fits else _EXPECTED[self.type]


def refuse_unknown_targets(prompt: Mapping[str, Any], declared: Sequence[DeclaredInput]) -> None:
    """Each must name a parameter of its own, and an input that is there.

    InvalidError("invalid_inputs") says under ``details.fields`` what is wrong with which.
    """
    problems: dict[str, str] = {}
    names: set[str] = set()
    targets: dict[tuple[str, str], str] = {}
    for each in declared:
        node = prompt.get(each.node)
        other = targets.setdefault((each.node, each.input), each.name)
        if each.name in names:
            problems[each.name] = "declared twice"
        elif node is None:
            problems[each.name] = f"there is no node {each.node}"
        elif each.input not in node["inputs"]:
            problems[each.name] = f"node {each.node} has no input {each.input}"
        elif other != each.name:
            problems[each.name] = f"sets the same input as {other}"
        names.add(each.name)
    if problems:
        raise InvalidError(
            "invalid_inputs", "Some declared inputs cannot be accepted.", {"fields": problems}
        )


def is_whole(value: Any) -> bool:
    """A whole number; true and false are none, although Python says so."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """A finite number."""
    return is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def same_value(one: Any, other: Any) -> bool:
    """Equal as JSON: ``true`` is not ``1``."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def outside(value: Any, least: Any, most: Any) -> str | None:
    """Why a number lies outside of bounds; a bound that is no number does not bind."""
    if not is_number(value):
        return None
    if is_number(least) and value < least:
        return f"must be at least {least}"
    if is_number(most) and value > most:
        return f"must be at most {most}"
    return None

"""A run's parameters, put where they belong in the prompt."""

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..comfyui import ObjectInfo, Prompt
from ..errors import InvalidError
from .declared_inputs import DeclaredInput, is_number, is_whole, outside, same_value
from .lora_references import KnownInputs, is_lora_row
from .node_inputs import COMBO, VALUE_KINDS, InputDescription, describe
from .prompt_shape import MAX_ID_LENGTH, is_finite, is_link, unwrapped

MAX_SHOWN = 200


class Target(NamedTuple):
    """An input of a node."""

    node: str
    input: str

    def __str__(self) -> str:
        """As a run may name it."""
        return f"{self.node}.{self.input}"


def apply_inputs(
    prompt: Prompt,
    declared: Sequence[DeclaredInput],
    params: Mapping[str, Any],
    object_info: ObjectInfo,
    listed: Sequence[str] = (),
) -> Prompt:
    """A deep copy of the prompt with the parameters in it, and declared defaults for those absent.

    A name is a declared input, else ``node_id.input_name``, else the name of exactly one node's
    input. A bare name never finds an input that is connected to another node; the other two replace
    the connection, where the input takes a value at all. Each value must fit the declared type and
    ComfyUI's description of the node. The names of LoRAs (``listed`` helps to tell which those are)
    are only checked to be texts: whoever resolves them knows more than ComfyUI's list.

    Raises InvalidError, with every problem under ``details.fields``: ``ambiguous_input``
    (``details.candidates``), ``unknown_input`` (``details.available``) or ``invalid_input``.
    """
    finder = _Finder(prompt, {each.name: each for each in declared}, object_info)
    fitting = _Fitting(prompt, KnownInputs(object_info, listed))
    refused = _Refused()
    chosen = _choose(finder, params, refused)
    for each in declared:
        if each.default is not None:
            chosen.setdefault(Target(each.node, each.input), (each.name, each.default))
    for target, (name, value) in chosen.items():
        if problem := fitting.problem(target, value, finder.declared.get(name)):
            refused.fields[name] = problem
    refused.raise_if_any()
    return _with_values(prompt, {target: value for target, (_, value) in chosen.items()})


@dataclass
class _Refused:
    """What is wrong with which parameter, gathered so that all of it is told at once."""

    fields: dict[str, str] = field(default_factory=dict)
    candidates: dict[str, list[str]] = field(default_factory=dict)
    available: list[str] | None = None

    def raise_if_any(self) -> None:
        if not self.fields:
            return
        code = "invalid_input"
        details: dict[str, Any] = {"fields": self.fields}
        if self.available is not None:
            code = "unknown_input"
            details["available"] = self.available
        if self.candidates:
            code = "ambiguous_input"
            details["candidates"] = self.candidates
        first = "; ".join(f"{name[:100]}: {why}" for name, why in list(self.fields.items())[:5])
        raise InvalidError(code, f"Some input parameters cannot be accepted. {first}.", details)


def _choose(
    finder: "_Finder", params: Mapping[str, Any], refused: _Refused
) -> dict[Target, tuple[str, Any]]:
    """``(name, value)`` of the parameter for each input that one names."""
    chosen: dict[Target, tuple[str, Any]] = {}
    for name, value in params.items():
        found = finder.find(name)
        if len(found) > 1:
            refused.candidates[name] = [str(target) for target in found[:MAX_SHOWN]]
            refused.fields[name] = "more than one node has this input"
        elif not found:
            refused.available = refused.available or finder.available()
            refused.fields[name] = finder.why_not(name)
        elif found[0] in chosen:
            refused.fields[name] = f"sets the same input as {chosen[found[0]][0]}"
        else:
            chosen[found[0]] = (name, value)
    return chosen


class _Finder:
    """Which input a name means."""

    def __init__(
        self, prompt: Prompt, declared: Mapping[str, DeclaredInput], object_info: ObjectInfo
    ) -> None:
        self.declared = declared
        self._prompt = prompt
        self._object_info = object_info
        self._open: dict[str, list[Target]] = {}
        self._linked: dict[str, list[Target]] = {}
        for node_id, node in prompt.items():
            for name, value in node["inputs"].items():
                kind = self._linked if is_link(value) else self._open
                kind.setdefault(name, []).append(Target(node_id, name))

    def find(self, name: str) -> list[Target]:
        if each := self.declared.get(name):
            target = Target(each.node, each.input)
            return [target] if self._exists(target) else []
        for dot in (
            place for place, letter in enumerate(name[: MAX_ID_LENGTH + 1]) if letter == "."
        ):
            target = Target(name[:dot], name[dot + 1 :])
            if self._exists(target):
                return [target]
        return self._open.get(name, [])

    def why_not(self, name: str) -> str:
        linked = self._linked.get(name)
        if not linked:
            return "no node has this input"
        return (
            f"comes from another node; to replace it, name it {' or '.join(map(str, linked[:10]))}"
        )

    def available(self) -> list[str]:
        names = itertools.chain(self.declared, map(str, itertools.chain(*self._open.values())))
        return list(itertools.islice(names, MAX_SHOWN))

    def _exists(self, target: Target) -> bool:
        node = self._prompt.get(target.node)
        return node is not None and (
            target.input in node["inputs"]
            or describe(self._object_info, node["class_type"], target.input) is not None
        )


class _Fitting:
    """Whether a value fits an input."""

    def __init__(self, prompt: Prompt, inputs: KnownInputs) -> None:
        self._prompt = prompt
        self._inputs = inputs

    def problem(self, target: Target, value: Any, declared: DeclaredInput | None) -> str | None:
        if not is_finite(value):
            return "NaN and infinite numbers are no values"
        if is_link(value):
            return "expected a value, not a connection to another node"
        if declared is not None and (problem := declared.problem_with(value)):
            return problem
        node = self._prompt[target.node]
        present = unwrapped(node["inputs"].get(target.input))
        if is_lora_row(present):
            fits = isinstance(value, str) or is_lora_row(value)
            return None if fits else "expected the name of a LoRA, or a row {on, lora, strength}"
        known = self._inputs.of(node["class_type"], target.input)
        description = known.description
        if description is None:
            return "comes from another node" if is_link(present) else None
        by_name = declared is not None and declared.type in ("lora", "image")
        if by_name or known.takes_lora:
            return None if isinstance(value, str) else "expected a name"
        kinds = VALUE_KINDS.intersection(description.kind.split(","))
        if not kinds:
            connected = target.input not in node["inputs"] or is_link(present)
            return f"takes a connection of type {description.kind}" if connected else None
        problems = [_CHECKS[kind](description, value) for kind in sorted(kinds)]
        return None if None in problems else problems[0]


def _check_int(description: InputDescription, value: Any) -> str | None:
    return "expected a whole number" if not is_whole(value) else _check_bounds(description, value)


def _check_float(description: InputDescription, value: Any) -> str | None:
    return "expected a number" if not is_number(value) else _check_bounds(description, value)


def _check_bounds(description: InputDescription, value: Any) -> str | None:
    return outside(value, description.settings.get("min"), description.settings.get("max"))


def _check_text(_description: InputDescription, value: Any) -> str | None:
    return None if isinstance(value, str) else "expected a text"


def _check_bool(_description: InputDescription, value: Any) -> str | None:
    return None if isinstance(value, bool) else "expected true or false"


def _check_choice(description: InputDescription, value: Any) -> str | None:
    if description.uploads:
        return _check_text(description, value)
    if description.options is None:
        return None if isinstance(value, (str, int, float)) else "expected one value"
    options = description.options
    several = isinstance(value, list) and any(
        description.settings.get(name) for name in ("multiselect", "multi_select")
    )
    for each in value if several else [value]:
        if not any(same_value(each, option) for option in options):
            return f"is not among the choices{_shown(options)}"
    return None


_CHECKS: Mapping[str, Callable[[InputDescription, Any], str | None]] = {
    "INT": _check_int,
    "FLOAT": _check_float,
    "STRING": _check_text,
    "BOOLEAN": _check_bool,
    COMBO: _check_choice,
}


def _shown(options: Sequence[Any]) -> str:
    """The choices for people; never a list of files, which may be other people's."""
    texts = [str(option) for option in options]
    if not texts:
        return ", of which there are none"
    if len(texts) > MAX_SHOWN or any(mark in text for text in texts for mark in "./\\"):
        return ""
    return f": {', '.join(texts)}"


def _with_values(prompt: Prompt, values: Mapping[Target, Any]) -> Prompt:
    changed = copy.deepcopy(prompt)
    for target, value in values.items():
        inputs = changed[target.node]["inputs"]
        present = unwrapped(inputs.get(target.input))
        if is_lora_row(present) and isinstance(value, str):
            present["lora"] = value
        elif isinstance(value, list):
            # a bare list would be read as a connection
            inputs[target.input] = {"__value__": copy.deepcopy(value)}
        else:
            inputs[target.input] = copy.deepcopy(value)
    return changed

"""Prompts checked as ComfyUI's ``execution.py`` checks them: the same errors, the same shapes.

What ComfyUI trips over (a node without inputs, a link to nowhere) trips this too: such exceptions
are part of its answers.
"""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .folders import Folders
from .nodes import Inputs, NodeClass, Prompt, input_spec

MAX_SHOWN_CHOICES = 20
CASTS: Mapping[str, Any] = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}

Error = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """``error`` is None when some output can be executed; bad ones are in ``node_errors``."""

    error: Error | None
    outputs: Sequence[str] = ()
    node_errors: Mapping[str, Any] | None = None


def validate(
    prompt: Prompt,
    classes: Mapping[str, NodeClass],
    folders: Folders,
    targets: Sequence[str] | None = None,
) -> Verdict:
    """Check a prompt. Converts its values in place, as ComfyUI does."""
    outputs = []
    for node_id in prompt:
        if "class_type" not in prompt[node_id]:
            message = "Cannot execute because a node is missing the class_type property."
            return Verdict(_error("invalid_prompt", message, f"Node ID '#{node_id}'"))
        class_type = prompt[node_id]["class_type"]
        if class_type not in classes:
            message = f"Cannot execute because node {class_type} does not exist."
            return Verdict(_error("invalid_prompt", message, f"Node ID '#{node_id}'"))
        if classes[class_type].output_node and (targets is None or node_id in targets):
            outputs.append(node_id)
    if not outputs:
        return Verdict(_error("prompt_no_outputs", "Prompt has no outputs"))
    return _Validation(prompt, classes, folders).judge(outputs)


def _error(kind: str, message: str, details: str = "", **extra_info: Any) -> Error:
    return {"type": kind, "message": message, "details": details, "extra_info": extra_info}


def _thrown(kind: str, message: str, error: Exception, **extra_info: Any) -> Error:
    """An error for an exception, with the traceback that ComfyUI puts into its answers."""
    return _error(
        kind,
        message,
        str(error),
        **extra_info,
        exception_type=type(error).__name__,
        traceback=traceback.format_tb(error.__traceback__),
    )


class _Validation:
    """One prompt; ``_errors`` has every node that was looked at."""

    def __init__(self, prompt: Prompt, classes: Mapping[str, NodeClass], folders: Folders) -> None:
        self._prompt = prompt
        self._classes = classes
        self._folders = folders
        self._errors: dict[str, tuple[bool, list[Error]]] = {}

    def judge(self, outputs: Sequence[str]) -> Verdict:
        good, lines = [], []
        node_errors: dict[str, Any] = {}
        for output in outputs:
            try:
                valid, reasons = self._node(output)
            except Exception as error:
                message = "Exception when validating node"
                valid, reasons = False, [_thrown("exception_during_validation", message, error)]
                self._errors[output] = (False, reasons)
            if valid:
                good.append(output)
                continue
            lines += [f"{reason['message']}: {reason['details']}" for reason in reasons]
            self._blame(output, node_errors)
        if good:
            return Verdict(None, good, node_errors)
        message = "Prompt outputs failed validation"
        error_of_all = _error("prompt_outputs_failed_validation", message, "\n".join(lines))
        return Verdict(error_of_all, (), node_errors)

    def _blame(self, output: str, node_errors: dict[str, Any]) -> None:
        """Note every node found bad so far as a reason why this output is."""
        for node_id, (valid, reasons) in self._errors.items():
            if not valid and reasons:
                blank = {
                    "errors": reasons,
                    "dependent_outputs": [],
                    "class_type": self._prompt[node_id]["class_type"],
                }
                node_errors.setdefault(node_id, blank)["dependent_outputs"].append(output)

    def _node(self, node_id: str) -> tuple[bool, list[Error]]:
        if node_id in self._errors:
            return self._errors[node_id]
        given = self._prompt[node_id]["inputs"]
        inputs = self._classes[self._prompt[node_id]["class_type"]].inputs(self._folders)
        errors: list[Error] = []
        upstream_valid = True
        for name in [*inputs.get("required", {}), *inputs.get("optional", {})]:
            if name not in given:
                if name in inputs.get("required", {}):
                    missing = "Required input is missing"
                    errors.append(_error("required_input_missing", missing, name, input_name=name))
            elif isinstance(given[name], list):
                error, valid = self._link(name, given[name], inputs)
                errors += [error] if error else []
                upstream_valid = upstream_valid and valid
            elif (error := _value(name, given, inputs)) is not None:
                errors.append(error)
        self._errors[node_id] = (not errors and upstream_valid, errors)
        return self._errors[node_id]

    def _link(self, name: str, link: list[Any], inputs: Inputs) -> tuple[Error | None, bool]:
        """The error of the link itself, and whether what it comes from is valid."""
        wanted, _, options = input_spec(inputs, name)
        about = {"input_name": name, "input_config": (wanted, options)}
        if len(link) != 2:
            message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            return _error("bad_linked_input", message, name, **about, received_value=link), True
        source = link[0]
        received = self._classes[self._prompt[source]["class_type"]].outputs[link[1]]
        if not _fits(received, wanted):
            message = "Return type mismatch between linked nodes"
            details = f"{name}, received_type({received}) mismatch input_type({wanted})"
            more = {**about, "received_type": received, "linked_node": link}
            return _error("return_type_mismatch", message, details, **more), True
        try:
            valid, _ = self._node(source)
        except Exception as error:
            message = "Exception when validating inner node"
            kind = "exception_during_inner_validation"
            more = {**about, "exception_message": str(error), "linked_node": link}
            self._errors[source] = (False, [_thrown(kind, message, error, **more)])
            valid = False
        return None, valid


def _fits(received: str, wanted: Any) -> bool:
    """Types may be comma lists; ``*`` takes everything."""
    if wanted == "*" or received == wanted:
        return True
    if not isinstance(wanted, str):
        return False
    names = {name.strip() for name in received.split(",")}
    return bool(names & {name.strip() for name in wanted.split(",")})


def _value(name: str, given: dict[str, Any], inputs: Inputs) -> Error | None:
    """Convert a plain value in place and check it; the error, if any."""
    wanted, _, options = input_spec(inputs, name)
    about = {"input_name": name, "input_config": (wanted, options)}
    value = given[name]
    try:
        if isinstance(value, dict) and "__value__" in value:
            value = given[name] = value["__value__"]
        if isinstance(wanted, str) and wanted in CASTS:
            value = given[name] = CASTS[wanted](value)
    except Exception as error:
        message = f"Failed to convert an input value to a {wanted} value"
        details = f"{name}, {value}, {error}"
        more = {**about, "received_value": value, "exception_message": str(error)}
        return _error("invalid_input_type", message, details, **more)
    about["received_value"] = value
    if "min" in options and value < options["min"]:
        message = f"Value {value} smaller than min of {options['min']}"
        return _error("value_smaller_than_min", message, name, **about)
    if "max" in options and value > options["max"]:
        message = f"Value {value} bigger than max of {options['max']}"
        return _error("value_bigger_than_max", message, name, **about)
    if isinstance(wanted, list) and value not in wanted:
        return _not_in_list(name, value, wanted, about)
    return None


def _not_in_list(name: str, value: Any, choices: list[Any], about: dict[str, Any]) -> Error:
    shown = str(choices)
    if len(choices) > MAX_SHOWN_CHOICES:
        shown = f"(list of length {len(choices)})"
        about["input_config"] = None
    details = f"{name}: '{value}' not in {shown}"
    return _error("value_not_in_list", "Value not in list", details, **about)

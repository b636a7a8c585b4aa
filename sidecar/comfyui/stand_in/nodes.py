"""What a node class is here: its inputs as ``/object_info`` describes them, and what it does."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .folders import Folders

Prompt: TypeAlias = dict[str, Any]

InputSpec: TypeAlias = tuple[Any, ...]
"""``(type or list of choices, options)``; the options may be left out."""

Inputs: TypeAlias = Mapping[str, Mapping[str, Any]]
"""``{"required": {name: InputSpec}, "optional": ..., "hidden": {name: what}}``."""


class StopProcessing(Exception):  # noqa: N818
    """Somebody asked ComfyUI to stop what it runs."""


@dataclass(frozen=True)
class Result:
    """Values for the output sockets, and what is shown: ``{key: list of JSON values}``."""

    values: tuple[Any, ...] = ()
    ui: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Work:
    """What a node's function has besides its inputs.

    ``memory`` lasts as long as consecutive prompts have this node id with this class: ComfyUI keeps
    the node's object so long. ``progress(value, max)`` reports a step and honours an interrupt.
    """

    folders: Folders
    prompt: Prompt
    extra_pnginfo: Mapping[str, Any] | None
    memory: dict[str, Any]
    progress: Callable[[int, int], Awaitable[None]]


@dataclass(frozen=True)
class NodeClass:
    """A node class. ``open_ended`` ones also take inputs that they do not declare."""

    name: str
    inputs: Callable[[Folders], Inputs]
    run: Callable[..., Awaitable[Result]]
    outputs: tuple[str, ...] = ()
    output_node: bool = False
    open_ended: bool = False
    category: str = "stand-in"
    display_name: str | None = None
    module: str = "nodes"
    output_names: tuple[str, ...] = field(default=())

    def describe(self, folders: Folders) -> dict[str, Any]:
        """The class as ``/object_info`` shows it."""
        inputs = self.inputs(folders)
        return {
            "input": inputs,
            "input_order": {kind: list(named) for kind, named in inputs.items()},
            "output": self.outputs,
            "output_is_list": [False] * len(self.outputs),
            "output_name": self.output_names or self.outputs,
            "name": self.name,
            "display_name": self.display_name or self.name,
            "description": "",
            "python_module": self.module,
            "category": self.category,
            "output_node": self.output_node,
        }


def input_spec(inputs: Inputs, name: str) -> tuple[Any, str | None, Mapping[str, Any]]:
    """``(type, kind, options)`` of an input; the kind is None for one that is not declared."""
    for kind in ("required", "optional", "hidden"):
        if name in inputs.get(kind, {}):
            spec = inputs[kind][name]
            return spec[0], kind, spec[1] if len(spec) > 1 else {}
    return None, None, {}


def is_link(value: Any) -> bool:
    """Whether an input's value is ``[node id, output index]``."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int | float)
    )

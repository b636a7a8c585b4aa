"""Declarations of inputs, outputs and nodes."""

from typing import Any


class Declared:
    """An input or output: its name and its options."""

    def __init__(self, id: str | None = None, **options: Any) -> None:
        self.id = id
        self.options = options


class _Kind:
    class Input(Declared):
        """An input."""

    class Output(Declared):
        """An output."""


class Model(_Kind):
    """A diffusion model."""


class Clip(_Kind):
    """A text encoder."""


class Float(_Kind):
    """A number."""


class Combo(_Kind):
    """A choice."""


class RemoteOptions:
    """A choice whose options the editor fetches."""

    def __init__(
        self, route: str, refresh_button: bool, control_after_refresh: str | None = "first"
    ) -> None:
        self.route = route
        self.refresh_button = refresh_button
        self.control_after_refresh = control_after_refresh


class Schema:
    """What a node declares."""

    def __init__(
        self, node_id: str, inputs: list[Declared], outputs: list[Declared], **shown: str
    ) -> None:
        self.node_id = node_id
        self.inputs = inputs
        self.outputs = outputs
        self.shown = shown


class ComfyNode:
    """The base of a V3 node."""


class NodeOutput:
    """What a node returns."""

    def __init__(self, *args: Any) -> None:
        self.args = args

"""Results kept from the last prompt, by what went into them, as ComfyUI's default cache does."""

from collections.abc import Hashable, Mapping
from typing import Any

from .nodes import NodeClass, Prompt, Result, is_link


class Cache:
    """Results by signature; a node's memory by its id and class."""

    def __init__(self) -> None:
        self._results: dict[Hashable, Result] = {}
        self._memories: dict[tuple[str, str], dict[str, Any]] = {}
        self._signatures: dict[str, Hashable] = {}

    def begin(self, prompt: Prompt, classes: Mapping[str, NodeClass]) -> None:
        """Keep only what this prompt contains too.

        A node without an object ``inputs`` raises here, needed by an output or not; in ComfyUI
        that is the end of its worker.
        """
        self._signatures = {}
        for node_id in prompt:
            self._sign(node_id, prompt, classes)
        signatures = set(self._signatures.values())
        kept = {(node_id, node["class_type"]) for node_id, node in prompt.items()}
        self._results = {s: r for s, r in self._results.items() if s in signatures}
        self._memories = {key: m for key, m in self._memories.items() if key in kept}

    def result(self, node_id: str) -> Result | None:
        """What this node gave when everything that goes into it was the same."""
        return self._results.get(self._signatures[node_id])

    def keep(self, node_id: str, result: Result) -> None:
        """Remember what this node gave."""
        self._results[self._signatures[node_id]] = result

    def memory(self, node_id: str, class_type: str) -> dict[str, Any]:
        """What the node's object remembers."""
        return self._memories.setdefault((node_id, class_type), {})

    def clear(self) -> None:
        """Forget everything, as ``POST /free`` asks."""
        self._results.clear()
        self._memories.clear()

    def _sign(self, node_id: str, prompt: Prompt, classes: Mapping[str, NodeClass]) -> Hashable:
        if node_id not in prompt:
            return ("nowhere",)
        if node_id not in self._signatures:
            self._signatures[node_id] = ("cycle",)
            inputs = prompt[node_id]["inputs"]
            parts: list[Hashable] = [prompt[node_id]["class_type"]]
            for name in sorted(inputs.keys()):
                value = inputs[name]
                if is_link(value):
                    parts.append((name, self._sign(value[0], prompt, classes), value[1]))
                else:
                    parts.append((name, repr(value)))
            self._signatures[node_id] = tuple(parts)
        return self._signatures[node_id]

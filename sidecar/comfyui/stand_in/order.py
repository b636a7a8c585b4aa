"""In which order ComfyUI runs the nodes of a prompt."""

from collections.abc import Collection, Mapping
from typing import Any

from .nodes import NodeClass, Prompt, is_link


class Order:
    """What is still to run. Nodes in ``cached`` count as done, unless they are outputs."""

    def __init__(
        self, prompt: Prompt, classes: Mapping[str, NodeClass], cached: Collection[str]
    ) -> None:
        self._prompt = prompt
        self._classes = classes
        self._cached = cached
        self._waits_for: dict[str, set[str]] = {}

    def add(self, node_id: str) -> None:
        """Add an output node and whatever it needs, in ComfyUI's order of discovery."""
        to_add = [node_id]
        while to_add:
            current = to_add.pop()
            if current in self._waits_for:
                continue
            sources = [
                value[0]
                for value in self._prompt[current]["inputs"].values()
                if is_link(value) and value[0] not in self._cached
            ]
            self._waits_for[current] = set(sources)
            to_add += sources

    def next(self) -> str | None:
        """The node to run now; None when all is done."""
        ready = [node_id for node_id, sources in self._waits_for.items() if not sources]
        if not ready:
            return None
        users = {node_id: self._users(node_id) for node_id in ready}
        for rank in (
            lambda node_id: self._is_output(node_id),
            lambda node_id: any(map(self._is_output, users[node_id])),
            lambda node_id: any(
                self._is_output(further) for user in users[node_id] for further in self._users(user)
            ),
        ):
            for node_id in ready:
                if rank(node_id):
                    return node_id
        return ready[0]

    def done(self, node_id: str) -> None:
        """This node has run."""
        del self._waits_for[node_id]
        for sources in self._waits_for.values():
            sources.discard(node_id)

    def _users(self, node_id: str) -> list[str]:
        return [user for user, sources in self._waits_for.items() if node_id in sources]

    def _is_output(self, node_id: str) -> Any:
        return self._classes[self._prompt[node_id]["class_type"]].output_node

"""The V3 node API as far as the nodes use it: declarations keep what they were told."""

from typing import Any

from . import io

__all__ = ["ComfyExtension", "io"]


class ComfyExtension:
    """What ``comfy_entrypoint`` returns."""

    async def get_node_list(self) -> list[Any]:
        """The node classes."""
        raise NotImplementedError

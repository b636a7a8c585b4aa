"""The list of nodes, as ComfyUI asks for it."""

from comfy_api.latest import ComfyExtension, io

from .user_lora_loader import UserLoraLoader, UserLoraLoaderModelOnly


class Extension(ComfyExtension):
    """Atelier's nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Every node class."""
        return [UserLoraLoader, UserLoraLoaderModelOnly]

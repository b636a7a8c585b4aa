"""ComfyUI's door to Atelier, and the only bridge between its islands.

Imports nothing until ComfyUI asks, so that tools may import this folder without ComfyUI.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension


async def comfy_entrypoint() -> "ComfyExtension":
    """Wire the routes into ComfyUI's server and hand over the nodes."""
    from . import nodes, server_routes

    # here, not in the extension's on_load(): ComfyUI 0.3.64 does not call that
    server_routes.register()
    return nodes.Extension()

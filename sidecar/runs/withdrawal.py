"""Takes a prompt that nobody waits for any more out of ComfyUI."""

import asyncio

from ..comfyui import ComfyUI, Place

LOOK_AGAIN_SECONDS = 0.25
LOOKS = 240
"""One minute: a node that does not look at the interrupt ends by itself or not at all."""


async def withdraw(comfyui: ComfyUI, prompt_id: str) -> None:
    """Again and again: ComfyUI loses an interrupt that comes as the prompt begins.

    Raises what the port raises.
    """
    for _ in range(LOOKS):
        await comfyui.withdraw(prompt_id)
        if (await comfyui.find(prompt_id)).place not in (Place.PENDING, Place.RUNNING):
            return
        await asyncio.sleep(LOOK_AGAIN_SECONDS)

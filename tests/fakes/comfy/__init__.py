"""What the pack uses of ComfyUI's ``comfy``, without torch."""

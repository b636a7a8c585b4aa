"""What the nodes use of ComfyUI's ``comfy_execution``."""

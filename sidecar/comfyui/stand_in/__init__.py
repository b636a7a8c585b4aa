"""A stand-in for ComfyUI, used by the demo and the tests.

It speaks ComfyUI 0.3.64's API, validates prompts like it and runs them one at a time, but what it
draws is a pattern: no model is ever loaded. ``python -m sidecar.comfyui.stand_in`` runs it.
"""

from .nodes import NodeClass, Result, Work
from .server import StandIn, serving

__all__ = ["NodeClass", "Result", "StandIn", "Work", "serving"]

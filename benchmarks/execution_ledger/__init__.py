"""A ComfyUI pack for one experiment: it writes down every prompt that is executed.

The node ``ExecutionLedger`` appends the prompt's id to the file that EXECUTION_LEDGER names, at
every execution: it is never taken from the cache.
"""

import os
from typing import Any


class ExecutionLedger:
    """Passes an image on."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "note"
    CATEGORY = "atelier"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """One image."""
        return {"required": {"images": ("IMAGE",)}}

    @classmethod
    def IS_CHANGED(cls, **_inputs: Any) -> float:  # noqa: N802 - ComfyUI's name
        """NaN equals nothing: it runs every time."""
        return float("nan")

    def note(self, images: Any) -> tuple[Any]:
        """Write the prompt's id down."""
        from comfy_execution.utils import get_executing_context

        with open(os.environ["EXECUTION_LEDGER"], "a", encoding="utf-8") as ledger:  # noqa: PTH123
            ledger.write(f"{get_executing_context().prompt_id}\n")
        return (images,)


NODE_CLASS_MAPPINGS = {"ExecutionLedger": ExecutionLedger}

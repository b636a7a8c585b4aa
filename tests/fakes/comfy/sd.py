"""Applying a LoRA: the answer says what was applied to what."""

from typing import Any


def load_lora_for_models(
    model: Any, clip: Any, lora: Any, strength_model: float, strength_clip: float
) -> tuple[Any, Any]:
    """Model and CLIP, each with the LoRA's bytes and the strength."""
    return (model, lora, strength_model), (clip, lora, strength_clip)

"""What a prompt is, what it refers to, and how parameters are applied: pure functions.

The one place from which other rooms take them.
"""

from .declared_inputs import DeclaredInput, refuse_unknown_targets
from .foreign_paths import ForeignPath, foreign_paths
from .input_params import apply_inputs
from .lora_references import LoraReference, in_listed_form, lora_references, replace_loras
from .prompt_shape import (
    is_finite,
    is_link,
    refuse_endless_numbers,
    require_prompt,
    unknown_classes,
)

__all__ = [
    "DeclaredInput",
    "ForeignPath",
    "LoraReference",
    "apply_inputs",
    "foreign_paths",
    "in_listed_form",
    "is_finite",
    "is_link",
    "lora_references",
    "refuse_endless_numbers",
    "refuse_unknown_targets",
    "replace_loras",
    "require_prompt",
    "unknown_classes",
]

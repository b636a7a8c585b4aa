"""A txt2img graph, and what ComfyUI says about its nodes and about some that packs add."""

import json
from pathlib import Path
from typing import Any

LISTED = ["lora-a.safetensors", "lora-b.safetensors", "styles/ink.safetensors"]

_HERE = Path(__file__).parent.parent / "workflows"


def txt2img() -> dict[str, Any]:
    """A graph of eight nodes with one LoraLoader ("2")."""
    return _read("txt2img.json")


def object_info() -> dict[str, Any]:
    """Cut from a real ``GET /object_info`` with the files of ``LISTED``; packs' nodes by hand."""
    return _read("object_info.json")


def _read(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((_HERE / name).read_text(encoding="utf-8"))
    return value

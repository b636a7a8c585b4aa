"""Nodes that load LoRAs: ComfyUI's, Atelier's, and the shapes that well-known packs give them."""

import asyncio
from typing import Any

from .folders import Folders
from .lora_files import read_lora
from .nodes import Inputs, NodeClass, Result, Work
from .values import Weights

STRENGTH = ("FLOAT", {"default": 1.0, "min": -100.0, "max": 100.0, "step": 0.01})
WEIGHT = ("FLOAT", {"default": 1.0, "min": -10.0, "max": 10.0, "step": 0.01})
STACK_SLOTS = 3
# the pack's own nodes: the editor fills the list, and ComfyUI does not check a COMBO
USER_LORA = ("COMBO", {"remote": {"route": "/api/v1/comfyui/loras/names", "refresh_button": True}})


async def _read(work: Work, lora_name: str) -> str:
    """The LoRA's sha256; a node keeps the last one by path, so new bytes there go unnoticed."""
    file = work.folders.lora_file(lora_name)
    if work.memory.get("path") != file:
        work.memory.clear()
        work.memory.update(path=file, sha256=await asyncio.to_thread(read_lora, file))
    sha256: str = work.memory["sha256"]
    return sha256


def _lora_inputs(folders: Folders) -> Inputs:
    required = {
        "model": ("MODEL", {}),
        "clip": ("CLIP", {}),
        "lora_name": (folders.lora_names(), {}),
        "strength_model": STRENGTH,
        "strength_clip": STRENGTH,
    }
    return {"required": required}


def _user_lora_inputs(folders: Folders) -> Inputs:
    return {"required": {**_lora_inputs(folders)["required"], "lora_name": USER_LORA}}


async def _load(
    work: Work,
    model: Weights,
    clip: Weights,
    lora_name: str,
    strength_model: float,
    strength_clip: float,
) -> Result:
    if strength_model == 0 and strength_clip == 0:
        return Result((model, clip))
    sha256 = await _read(work, lora_name)
    return Result((model.with_lora(sha256, strength_model), clip.with_lora(sha256, strength_clip)))


def _model_only_inputs(folders: Folders) -> Inputs:
    lora_names = (folders.lora_names(),)
    return {"required": {"model": ("MODEL",), "lora_name": lora_names, "strength_model": STRENGTH}}


def _user_model_only_inputs(folders: Folders) -> Inputs:
    return {"required": {**_model_only_inputs(folders)["required"], "lora_name": USER_LORA}}


async def _load_model_only(
    work: Work, model: Weights, lora_name: str, strength_model: float
) -> Result:
    if strength_model == 0:
        return Result((model,))
    return Result((model.with_lora(await _read(work, lora_name), strength_model),))


def _power_inputs(_folders: Folders) -> Inputs:
    return {"required": {}, "optional": {"model": ("MODEL",), "clip": ("CLIP",)}, "hidden": {}}


async def _load_power(
    work: Work, model: Weights | None = None, clip: Weights | None = None, **rows: Any
) -> Result:
    """Each row is ``lora_<n>: {"on", "lora", "strength", "strengthTwo"?}``; others are widgets."""
    for name, row in rows.items():
        if not (name.lower().startswith("lora_") and isinstance(row, dict) and row.get("on")):
            continue
        if row.get("lora") not in work.folders.lora_names():
            continue  # that pack logs a missing one and goes on without
        sha256 = await asyncio.to_thread(read_lora, work.folders.lora_file(row["lora"]))
        both = row.get("strengthTwo")
        model = model and model.with_lora(sha256, row["strength"])
        clip = clip and clip.with_lora(sha256, row["strength"] if both is None else both)
    return Result((model, clip))


def _stack_inputs(folders: Folders) -> Inputs:
    required: dict[str, Any] = {}
    for slot in range(1, STACK_SLOTS + 1):
        required[f"switch_{slot}"] = (["Off", "On"],)
        required[f"lora_name_{slot}"] = (["None", *folders.lora_names()],)
        required[f"model_weight_{slot}"] = WEIGHT
        required[f"clip_weight_{slot}"] = WEIGHT
    return {"required": required, "optional": {"lora_stack": ("LORA_STACK",)}}


async def _stack(_work: Work, lora_stack: Any = None, **slots: Any) -> Result:
    stack = list(lora_stack or ())
    for slot in range(1, STACK_SLOTS + 1):
        if slots[f"switch_{slot}"] == "On" and slots[f"lora_name_{slot}"] != "None":
            names = (f"lora_name_{slot}", f"model_weight_{slot}", f"clip_weight_{slot}")
            stack.append(tuple(slots[name] for name in names))
    return Result((tuple(stack), ""))


def _apply_inputs(_folders: Folders) -> Inputs:
    return {"required": {"model": ("MODEL",), "clip": ("CLIP",), "lora_stack": ("LORA_STACK",)}}


async def _apply_stack(work: Work, model: Weights, clip: Weights, lora_stack: Any) -> Result:
    for name, on_model, on_clip in lora_stack:
        sha256 = await asyncio.to_thread(read_lora, work.folders.lora_file(name))
        model, clip = model.with_lora(sha256, on_model), clip.with_lora(sha256, on_clip)
    return Result((model, clip, ""))


_BOTH = ("MODEL", "CLIP")

LORA_NODES = (
    NodeClass(
        "LoraLoader", _lora_inputs, _load, _BOTH, category="loaders", display_name="Load LoRA"
    ),
    NodeClass(
        "LoraLoaderModelOnly", _model_only_inputs, _load_model_only, ("MODEL",), category="loaders"
    ),
    NodeClass("UserLoraLoader", _user_lora_inputs, _load, _BOTH, category="atelier"),
    NodeClass(
        "UserLoraLoaderModelOnly",
        _user_model_only_inputs,
        _load_model_only,
        ("MODEL",),
        category="atelier",
    ),
    NodeClass(
        "Power Lora Loader (rgthree)",
        _power_inputs,
        _load_power,
        _BOTH,
        open_ended=True,
        category="rgthree",
    ),
    NodeClass("CR LoRA Stack", _stack_inputs, _stack, ("LORA_STACK", "STRING")),
    NodeClass("CR Apply LoRA Stack", _apply_inputs, _apply_stack, ("MODEL", "CLIP", "STRING")),
)

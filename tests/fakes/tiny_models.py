"""Makes a tiny checkpoint and two LoRAs for a real ComfyUI: ``python tiny_models.py MODELS_DIR``.

Runs on ComfyUI's interpreter (torch, safetensors). The weights are random, so pictures are noise,
but the mechanics are real: an image of 64x64 in 2 steps takes about a second on a CPU, both LoRAs
patch the UNet and the text encoder with no key left over, and the pictures without a LoRA, with A
and with B are clearly different. The same machine and torch give the same pixels again.

    checkpoints/tiny-sd15.ckpt       3.3 MB, in 139 M weights
    loras/lora-a.safetensors, lora-b.safetensors   0.24 MB each, rank 4

ComfyUI knows SD1.5 by its UNet's shapes and counts blocks by their keys, so one level with one
block is enough; the VAE is a TAESD. The file is small because each weight is an overlapping view
of a few short random vectors, and torch.save writes those once.
"""

import math
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Shapes = Iterator[tuple[str, tuple[int, ...]]]

CHANNELS, TIME_EMBED, CONTEXT, TOKENS = 320, 1280, 768, 49408
LORAS = {"lora-a": 1, "lora-b": 2}
RANK = 4


def _layer(key: str, *shape: int, bias: bool = True) -> Shapes:
    yield f"{key}.weight", shape
    if bias:
        yield f"{key}.bias", shape[:1]


def _unet() -> Shapes:
    def residual(key: str, inputs: int) -> Shapes:
        yield from _layer(f"{key}.in_layers.0", inputs)
        yield from _layer(f"{key}.in_layers.2", CHANNELS, inputs, 3, 3)
        yield from _layer(f"{key}.emb_layers.1", CHANNELS, TIME_EMBED)
        yield from _layer(f"{key}.out_layers.0", CHANNELS)
        yield from _layer(f"{key}.out_layers.3", CHANNELS, CHANNELS, 3, 3)
        if inputs != CHANNELS:
            yield from _layer(f"{key}.skip_connection", CHANNELS, inputs, 1, 1)

    yield from _layer("time_embed.0", TIME_EMBED, CHANNELS)
    yield from _layer("time_embed.2", TIME_EMBED, TIME_EMBED)
    yield from _layer("input_blocks.0.0", CHANNELS, 4, 3, 3)
    yield from residual("input_blocks.1.0", CHANNELS)
    yield from _layer("input_blocks.1.1.norm", CHANNELS)
    yield from _layer("input_blocks.1.1.proj_in", CHANNELS, CHANNELS, 1, 1)
    yield from _layer("input_blocks.1.1.proj_out", CHANNELS, CHANNELS, 1, 1)
    block = "input_blocks.1.1.transformer_blocks.0"
    for number in (1, 2, 3):
        yield from _layer(f"{block}.norm{number}", CHANNELS)
    for name, context in (("attn1", CHANNELS), ("attn2", CONTEXT)):
        yield from _layer(f"{block}.{name}.to_q", CHANNELS, CHANNELS, bias=False)
        yield from _layer(f"{block}.{name}.to_k", CHANNELS, context, bias=False)
        yield from _layer(f"{block}.{name}.to_v", CHANNELS, context, bias=False)
        yield from _layer(f"{block}.{name}.to_out.0", CHANNELS, CHANNELS)
    yield from _layer(f"{block}.ff.net.0.proj", CHANNELS * 8, CHANNELS)
    yield from _layer(f"{block}.ff.net.2", CHANNELS, CHANNELS * 4)
    yield from residual("output_blocks.0.0", CHANNELS * 2)
    yield from residual("output_blocks.1.0", CHANNELS * 2)
    yield from _layer("out.0", CHANNELS)
    yield from _layer("out.2", 4, CHANNELS, 3, 3)


def _text_encoder() -> Shapes:
    yield from _layer("embeddings.token_embedding", TOKENS, CONTEXT, bias=False)
    yield from _layer("embeddings.position_embedding", 77, CONTEXT, bias=False)
    for number in range(12):
        layer = f"encoder.layers.{number}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _layer(f"{layer}.self_attn.{name}", CONTEXT, CONTEXT)
        yield from _layer(f"{layer}.mlp.fc1", CONTEXT * 4, CONTEXT)
        yield from _layer(f"{layer}.mlp.fc2", CONTEXT, CONTEXT * 4)
        yield from _layer(f"{layer}.layer_norm1", CONTEXT)
        yield from _layer(f"{layer}.layer_norm2", CONTEXT)
    yield from _layer("final_layer_norm", CONTEXT)


def _vae() -> Shapes:
    def block(key: str) -> Shapes:
        for number in (0, 2, 4):
            yield from _layer(f"{key}.conv.{number}", 64, 64, 3, 3)

    yield from _layer("taesd_encoder.0", 64, 3, 3, 3)
    yield from block("taesd_encoder.1")
    for number in (2, 6, 10):
        yield from _layer(f"taesd_encoder.{number}", 64, 64, 3, 3, bias=False)
        for more in (1, 2, 3):
            yield from block(f"taesd_encoder.{number + more}")
    yield from _layer("taesd_encoder.14", 4, 64, 3, 3)
    yield from _layer("taesd_decoder.1", 64, 4, 3, 3)
    for number in (3, 8, 13):
        for more in (0, 1, 2):
            yield from block(f"taesd_decoder.{number + more}")
        yield from _layer(f"taesd_decoder.{number + 4}", 64, 64, 3, 3, bias=False)
    yield from block("taesd_decoder.18")
    yield from _layer("taesd_decoder.19", 3, 64, 3, 3)
    yield "vae_scale", ()
    yield "vae_shift", ()


def checkpoint() -> dict[str, Any]:
    """The state dict of the checkpoint; its tensors share storage."""
    import torch

    vectors: dict[int, Any] = {}

    def view(key: str, shape: tuple[int, ...]) -> Any:
        columns = math.prod(shape[1:])
        scale = 2500 if "embedding" in key else columns  # 2500: a deviation of 0.02
        if scale not in vectors:
            chance = torch.Generator().manual_seed(scale)
            vectors[scale] = torch.randn(1 << 17, generator=chance).div(scale**0.5).half()
        step = 1 if shape[0] == TOKENS else 13  # how far the next row starts after this one
        strides = [step, *(math.prod(shape[axis + 1 :]) for axis in range(1, len(shape)))]
        room = vectors[scale].numel() - (shape[0] - 1) * step - columns
        return torch.as_strided(vectors[scale], shape, strides, zlib.crc32(key.encode()) % room)

    parts = {
        "model.diffusion_model.": _unet(),
        "cond_stage_model.transformer.text_model.": _text_encoder(),
        "first_stage_model.": _vae(),
    }
    weights = {}
    for prefix, shapes in parts.items():
        for key, shape in shapes:
            if not shape:
                weights[prefix + key] = torch.tensor(1.0 if key.endswith("scale") else 0.0)
            elif len(shape) > 1:
                weights[prefix + key] = view(key, shape)
            else:  # a bias, or the weight of a norm
                weights[prefix + key] = torch.full(shape, float(key.endswith("weight"))).half()
    return weights


def lora(seed: int) -> dict[str, Any]:
    """The state dict of a LoRA in the key names of kohya's trainer."""
    import torch

    chance = torch.Generator().manual_seed(seed)
    block = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_"
    layers = {f"{block}ff_net_0_proj": (CHANNELS * 8, CHANNELS)}
    layers[f"{block}ff_net_2"] = (CHANNELS, CHANNELS * 4)
    for name, context in (("attn1", CHANNELS), ("attn2", CONTEXT)):
        layers |= {f"{block}{name}_to_{part}": (CHANNELS, context) for part in ("k", "v")}
        layers |= {f"{block}{name}_to_{part}": (CHANNELS, CHANNELS) for part in ("q", "out_0")}
    for number in range(12):
        name = f"lora_te_text_model_encoder_layers_{number}_self_attn_v_proj"
        layers[name] = (CONTEXT, CONTEXT)
    weights = {}
    for name, (outputs, inputs) in layers.items():
        down = torch.randn(RANK, inputs, generator=chance) / inputs**0.5
        up = torch.randn(outputs, RANK, generator=chance) * 0.6 / RANK**0.5
        weights[f"{name}.lora_down.weight"] = down.half().contiguous()
        weights[f"{name}.lora_up.weight"] = up.half().contiguous()
        weights[f"{name}.alpha"] = torch.tensor(float(RANK)).half()
    return weights


def make(models: Path) -> None:
    """Write the files into a folder that is laid out like ComfyUI's ``models``."""
    import torch
    from safetensors.torch import save_file

    for kind in ("checkpoints", "loras"):
        (models / kind).mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": checkpoint()}, models / "checkpoints" / "tiny-sd15.ckpt")
    for name, seed in LORAS.items():
        metadata = {"ss_output_name": name, "ss_network_dim": str(RANK)}
        save_file(lora(seed), models / "loras" / f"{name}.safetensors", metadata)


if __name__ == "__main__":
    make(Path(sys.argv[1]))

"""What the demo uploads and runs: a tiny LoRA and a txt2img graph."""

import json
import random
import struct

from .comfyui import Prompt

_LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
_RANK, _WIDTH = 4, 320


def demo_lora(seed: int = 1) -> bytes:
    """A valid safetensors file: one rank 4 layer of an SD1.5 LoRA in kohya's names, random weights.

    Layout: 8 bytes little-endian header length, the header as JSON, then the tensors.
    """
    chance = random.Random(seed)  # noqa: S311 - weights, not secrets
    tensors = {
        f"{_LAYER}.lora_down.weight": [_RANK, _WIDTH],
        f"{_LAYER}.lora_up.weight": [_WIDTH, _RANK],
    }
    metadata = {
        "ss_output_name": "demo-style",
        "ss_network_dim": str(_RANK),
        "ss_base_model_version": "sd_v1",
    }
    header: dict[str, object] = {"__metadata__": metadata}
    data = b""
    for name, shape in tensors.items():
        count = shape[0] * shape[1]
        weights = struct.pack(f"<{count}e", *(chance.gauss(0, 0.05) for _ in range(count)))
        offsets = [len(data), len(data) + len(weights)]
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": offsets}
        data += weights
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def demo_prompt(checkpoint: str) -> Prompt:
    """Text to image through a LoRA, small enough for a CPU: 64 by 64 pixels, 8 steps."""
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}},
        "2": {
            "class_type": "LoraLoader",
            "inputs": {
                "lora_name": "demo-style.safetensors",
                "strength_model": 1.0,
                "strength_clip": 1.0,
                "model": ["1", 0],
                "clip": ["1", 1],
            },
        },
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "a lighthouse", "clip": ["2", 1]}},
        "4": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["2", 1]}},
        "5": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1},
        },
        "6": {
            "class_type": "KSampler",
            "inputs": {
                "seed": 1,
                "steps": 8,
                "cfg": 4.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
                "model": ["2", 0],
                "positive": ["3", 0],
                "negative": ["4", 0],
                "latent_image": ["5", 0],
            },
        },
        "7": {"class_type": "VAEDecode", "inputs": {"samples": ["6", 0], "vae": ["1", 2]}},
        "8": {
            "class_type": "SaveImage",
            "inputs": {"filename_prefix": "atelier", "images": ["7", 0]},
        },
    }

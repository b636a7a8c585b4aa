"""ComfyUI's own nodes from checkpoint to picture."""

from typing import Any

from .folders import Folders
from .nodes import Inputs, NodeClass, Result, Work
from .values import Conditioning, Image, Latent, Weights

SAMPLERS = [
    "euler",
    "euler_cfg_pp",
    "euler_ancestral",
    "euler_ancestral_cfg_pp",
    "heun",
    "heunpp2",
    "dpm_2",
    "dpm_2_ancestral",
    "lms",
    "dpm_fast",
    "dpm_adaptive",
    "dpmpp_2s_ancestral",
    "dpmpp_2s_ancestral_cfg_pp",
    "dpmpp_sde",
    "dpmpp_sde_gpu",
    "dpmpp_2m",
    "dpmpp_2m_cfg_pp",
    "dpmpp_2m_sde",
    "dpmpp_2m_sde_gpu",
    "dpmpp_2m_sde_heun",
    "dpmpp_2m_sde_heun_gpu",
    "dpmpp_3m_sde",
    "dpmpp_3m_sde_gpu",
    "ddpm",
    "lcm",
    "ipndm",
    "ipndm_v",
    "deis",
    "res_multistep",
    "res_multistep_cfg_pp",
    "res_multistep_ancestral",
    "res_multistep_ancestral_cfg_pp",
    "gradient_estimation",
    "gradient_estimation_cfg_pp",
    "er_sde",
    "seeds_2",
    "seeds_3",
    "sa_solver",
    "sa_solver_pece",
    "ddim",
    "uni_pc",
    "uni_pc_bh2",
]
SCHEDULERS = [
    "simple",
    "sgm_uniform",
    "karras",
    "exponential",
    "ddim_uniform",
    "beta",
    "normal",
    "linear_quadratic",
    "kl_optimal",
]


def _checkpoint_inputs(folders: Folders) -> Inputs:
    return {"required": {"ckpt_name": (list(folders.checkpoints), {})}}


async def _load_checkpoint(_work: Work, ckpt_name: str) -> Result:
    weights = Weights(ckpt_name)
    return Result((weights, weights, ckpt_name))


def _text_inputs(_folders: Folders) -> Inputs:
    text = ("STRING", {"multiline": True, "dynamicPrompts": True})
    return {"required": {"text": text, "clip": ("CLIP", {})}}


async def _encode_text(_work: Work, text: str, clip: Weights) -> Result:
    return Result((Conditioning(text, clip),))


def _latent_inputs(_folders: Folders) -> Inputs:
    side = {"default": 512, "min": 16, "max": 16384, "step": 8}
    count = {"default": 1, "min": 1, "max": 4096}
    return {
        "required": {"width": ("INT", side), "height": ("INT", side), "batch_size": ("INT", count)}
    }


async def _empty_latent(_work: Work, width: int, height: int, batch_size: int) -> Result:
    return Result((Latent(width // 8 * 8, height // 8 * 8, batch_size),))


def _sampler_inputs(_folders: Folders) -> Inputs:
    seed = {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True}
    cfg = {"default": 8.0, "min": 0.0, "max": 100.0, "step": 0.1, "round": 0.01}
    return {
        "required": {
            "model": ("MODEL", {}),
            "seed": ("INT", seed),
            "steps": ("INT", {"default": 20, "min": 1, "max": 10000}),
            "cfg": ("FLOAT", cfg),
            "sampler_name": (SAMPLERS, {}),
            "scheduler": (SCHEDULERS, {}),
            "positive": ("CONDITIONING", {}),
            "negative": ("CONDITIONING", {}),
            "latent_image": ("LATENT", {}),
            "denoise": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}),
        }
    }


async def _sample(work: Work, steps: int, latent_image: Latent, **recipe: Any) -> Result:
    for step in range(steps):
        await work.progress(step + 1, steps)
    everything = (steps, latent_image, sorted(recipe.items()))
    size = latent_image
    return Result((Latent(size.width, size.height, size.count, repr(everything)),))


def _decode_inputs(_folders: Folders) -> Inputs:
    return {"required": {"samples": ("LATENT", {}), "vae": ("VAE", {})}}


async def _decode(_work: Work, samples: Latent, vae: str) -> Result:
    recipes = (f"{samples.recipe} {vae} {number}" for number in range(samples.count))
    return Result((tuple(Image(samples.width, samples.height, recipe) for recipe in recipes),))


CORE_NODES = (
    NodeClass(
        "CheckpointLoaderSimple",
        _checkpoint_inputs,
        _load_checkpoint,
        ("MODEL", "CLIP", "VAE"),
        category="loaders",
        display_name="Load Checkpoint",
    ),
    NodeClass(
        "CLIPTextEncode",
        _text_inputs,
        _encode_text,
        ("CONDITIONING",),
        category="conditioning",
        display_name="CLIP Text Encode (Prompt)",
    ),
    NodeClass(
        "EmptyLatentImage",
        _latent_inputs,
        _empty_latent,
        ("LATENT",),
        category="latent",
        display_name="Empty Latent Image",
    ),
    NodeClass("KSampler", _sampler_inputs, _sample, ("LATENT",), category="sampling"),
    NodeClass(
        "VAEDecode",
        _decode_inputs,
        _decode,
        ("IMAGE",),
        category="latent",
        display_name="VAE Decode",
    ),
)

"""Output nodes: one for every kind of output that ComfyUI reports."""

import asyncio
import json
import secrets
import string
from typing import Any

from . import media
from .folders import Folders, SavePlace, save_place
from .nodes import Inputs, NodeClass, Result, Work
from .picture import png
from .values import Audio, Image, Video

HIDDEN = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}
PREFIX = ("STRING", {"default": "ComfyUI"})


def _shown(place: SavePlace, name: str, kind: str = "output") -> dict[str, str]:
    return {"filename": name, "subfolder": place.subfolder, "type": kind}


def _texts(work: Work) -> dict[str, str]:
    texts = {"prompt": json.dumps(work.prompt)}
    return texts | {name: json.dumps(value) for name, value in (work.extra_pnginfo or {}).items()}


def _write_pictures(work: Work, images: tuple[Image, ...], prefix: str, kind: str) -> list[Any]:
    root = work.folders.base / kind
    place = save_place(prefix, root, images[0].width, images[0].height)
    results = []
    for number, image in enumerate(images):
        name = place.file(".png", number).replace("%batch_num%", str(number))
        drawn = png(image.width, image.height, image.digest(), _texts(work))
        (place.folder / name).write_bytes(drawn)
        results.append(_shown(place, name, kind))
    return results


def _save_image_inputs(_folders: Folders) -> Inputs:
    return {
        "required": {"images": ("IMAGE", {}), "filename_prefix": PREFIX},
        "hidden": HIDDEN,
    }


async def _save_image(
    work: Work, images: tuple[Image, ...], filename_prefix: str = "ComfyUI"
) -> Result:
    saved = await asyncio.to_thread(_write_pictures, work, images, filename_prefix, "output")
    return Result(ui={"images": saved})


def _preview_inputs(_folders: Folders) -> Inputs:
    return {"required": {"images": ("IMAGE",)}, "hidden": HIDDEN}


async def _preview_image(work: Work, images: tuple[Image, ...]) -> Result:
    letters = "".join(secrets.choice(string.ascii_lowercase) for _ in range(5))
    prefix = f"ComfyUI_temp_{work.memory.setdefault('letters', letters)}"
    saved = await asyncio.to_thread(_write_pictures, work, images, prefix, "temp")
    return Result(ui={"images": saved})


def _webp_inputs(_folders: Folders) -> Inputs:
    required = {
        "images": ("IMAGE",),
        "filename_prefix": PREFIX,
        "fps": ("FLOAT", {"default": 6.0, "min": 0.01, "max": 1000.0, "step": 0.01}),
        "lossless": ("BOOLEAN", {"default": True}),
        "quality": ("INT", {"default": 80, "min": 0, "max": 100}),
        "method": (["default", "fastest", "slowest"],),
    }
    return {"required": required, "hidden": HIDDEN}


async def _save_webp(
    work: Work, images: tuple[Image, ...], filename_prefix: str, fps: float, **_how: Any
) -> Result:
    about = b"".join(image.digest() for image in images)
    place = save_place(filename_prefix, work.folders.base / "output")
    name = place.file(".webp")
    (place.folder / name).write_bytes(media.animated_webp(len(images), fps, about))
    return Result(ui={"images": [_shown(place, name)], "animated": [len(images) != 1]})


def _empty_audio_inputs(_folders: Folders) -> Inputs:
    required = {
        "duration": ("FLOAT", {"default": 60.0, "min": 0.0, "max": 2**64 - 1, "step": 0.01}),
        "sample_rate": ("INT", {"default": 44100}),
        "channels": ("INT", {"default": 2, "min": 1, "max": 2}),
    }
    return {"required": required}


async def _empty_audio(_work: Work, duration: float, sample_rate: int, channels: int) -> Result:
    return Result((Audio(duration, sample_rate, channels),))


def _save_audio_inputs(_folders: Folders) -> Inputs:
    prefix = ("STRING", {"default": "audio/ComfyUI"})
    return {"required": {"audio": ("AUDIO",), "filename_prefix": prefix}, "hidden": HIDDEN}


async def _save_audio(work: Work, audio: Audio, filename_prefix: str = "ComfyUI") -> Result:
    place = save_place(filename_prefix, work.folders.base / "output")
    name = place.file(".flac")
    content = media.flac(audio.sample_rate, audio.channels, repr(audio).encode())
    (place.folder / name).write_bytes(content)
    return Result(ui={"audio": [_shown(place, name)]})


def _create_video_inputs(_folders: Folders) -> Inputs:
    fps = {"default": 30.0, "min": 1.0, "max": 120.0, "step": 1.0}
    return {
        "required": {"images": ("IMAGE", {}), "fps": ("FLOAT", fps)},
        "optional": {"audio": ("AUDIO", {})},
    }


async def _create_video(
    _work: Work, images: tuple[Image, ...], fps: float, audio: Audio | None = None
) -> Result:
    del audio  # heard nowhere: the file has no tracks
    return Result((Video(images, fps),))


def _save_video_inputs(_folders: Folders) -> Inputs:
    def choice(*options: str) -> tuple[str, dict[str, Any]]:
        return "COMBO", {"default": "auto", "multiselect": False, "options": list(options)}

    required = {
        "video": ("VIDEO", {}),
        "filename_prefix": ("STRING", {"default": "video/ComfyUI", "multiline": False}),
        "format": choice("auto", "mp4"),
        "codec": choice("auto", "h264"),
    }
    # nodes of the newer kind wrap each hidden name
    return {"required": required, "hidden": {name: [what] for name, what in HIDDEN.items()}}


async def _save_video(work: Work, video: Video, filename_prefix: str, **_how: Any) -> Result:
    place = save_place(filename_prefix, work.folders.base / "output")
    name = place.file(".mp4")
    content = media.mp4(b"".join(image.digest() for image in video.images))
    (place.folder / name).write_bytes(content)
    return Result(ui={"images": [_shown(place, name)], "animated": [True]})


def _preview_any_inputs(_folders: Folders) -> Inputs:
    return {"required": {"source": ("*", {})}}


async def _preview_any(_work: Work, source: Any) -> Result:
    return Result(ui={"text": [source if isinstance(source, str) else str(source)]})


def _save_text_inputs(_folders: Folders) -> Inputs:
    text = ("STRING", {"multiline": True})
    return {"required": {"text": text, "filename_prefix": PREFIX}}


async def _save_text(work: Work, text: str, filename_prefix: str) -> Result:
    place = save_place(filename_prefix, work.folders.base / "output")
    name = place.file(".txt")
    (place.folder / name).write_text(text, encoding="utf-8")
    return Result(ui={"text": [_shown(place, name)]})


def _saver(name: str, inputs: Any, run: Any, category: str, **more: Any) -> NodeClass:
    return NodeClass(name, inputs, run, output_node=True, category=category, **more)


SAVERS = (
    _saver("SaveImage", _save_image_inputs, _save_image, "image", display_name="Save Image"),
    _saver("PreviewImage", _preview_inputs, _preview_image, "image", display_name="Preview Image"),
    _saver("SaveAnimatedWEBP", _webp_inputs, _save_webp, "image/animation"),
    NodeClass("EmptyAudio", _empty_audio_inputs, _empty_audio, ("AUDIO",), category="audio"),
    _saver("SaveAudio", _save_audio_inputs, _save_audio, "audio"),
    NodeClass(
        "CreateVideo",
        _create_video_inputs,
        _create_video,
        ("VIDEO",),
        category="image/video",
        display_name="Create Video",
    ),
    _saver("SaveVideo", _save_video_inputs, _save_video, "image/video", display_name="Save Video"),
    _saver("PreviewAny", _preview_any_inputs, _preview_any, "utils", display_name="Preview Any"),
    _saver("SaveTextFile", _save_text_inputs, _save_text, "stand-in"),
)

"""ComfyUI: does it answer, and does it list what the sidecar puts into its LoRA folder?"""

from pathlib import Path
from uuid import uuid4

from ...comfyui import ComfyUI
from ...comfyui.client import connected
from ...errors import AtelierError, TimedOutError, UnavailableError
from ...settings import Settings
from .findings import Finding, Level, fail, ok, warn
from .folders import check_folder

SUBJECT = "ComfyUI"
LORAS = "LoRA folder"
_READ_SECONDS = 10.0


async def check_comfyui(settings: Settings) -> list[Finding]:
    """The server, then the folder."""
    folder = check_folder(LORAS, settings.loras_dir)
    password = settings.comfyui_web_password
    async with connected(
        settings.comfyui_url,
        client_id="atelier-doctor",
        user=settings.comfyui_web_user,
        password=password.get_secret_value() if password else None,
        verify_tls=settings.comfyui_verify_tls,
        read_seconds=_READ_SECONDS,
    ) as comfyui:
        try:
            stats = await comfyui.system_stats()
        except (UnavailableError, TimedOutError) as error:
            # it may well be started later: runs wait for it
            return [warn(SUBJECT, error.message), folder]
        except AtelierError as error:
            return [fail(SUBJECT, error.message), folder]
        answers = ok(SUBJECT, f"ComfyUI {stats.comfyui_version} answers.")
        if folder.level is Level.FAIL or not settings.loras_dir.is_dir():
            return [answers, folder]
        return [answers, folder, await _check_listing(comfyui, settings.loras_dir)]


async def _check_listing(comfyui: ComfyUI, folder: Path) -> Finding:
    """Put an empty file there for a moment, and ask."""
    name = f"atelier-doctor-{uuid4().hex}.safetensors"
    file = folder / name
    try:
        file.touch(exist_ok=False)
        try:
            listed = await comfyui.lora_files()
        finally:
            file.unlink()
    except (AtelierError, OSError) as error:
        return fail(LORAS, f"It could not be tried whether ComfyUI lists it: {error}.")
    if name in listed:
        return ok(LORAS, "ComfyUI lists what lies in it.")
    return fail(
        LORAS,
        f"ComfyUI does not list what lies in {folder}: set COMFYUI_LORAS_DIR to one of its LoRA "
        "folders, or name this one in its extra_model_paths.yaml.",
    )

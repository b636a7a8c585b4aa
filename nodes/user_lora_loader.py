"""LoraLoader for the caller's own library: the LoRA comes onto this machine when it is needed.

Nothing is kept between runs. LoraLoader keeps the last file per node, by path, and so passes it
from one user to the next; here a changed strength reads it again, from the system's page cache.
"""

from pathlib import Path
from typing import Any

from comfy_api.latest import io
from comfy_execution.utils import get_executing_context

from . import gateway, lora_files

ROUTE = "/api/v1/comfyui/loras/names"


def _lora_name() -> io.Combo.Input:
    # no control_after_refresh: refreshing the list must not change what is chosen
    remote = io.RemoteOptions(route=ROUTE, refresh_button=True, control_after_refresh=None)
    return io.Combo.Input(
        "lora_name",
        options=[],
        remote=remote,
        tooltip="A LoRA of your own library, or a file that ComfyUI has.",
    )


def _strength(name: str, of: str) -> io.Float.Input:
    tooltip = f"How strongly to modify the {of}. This value can be negative."
    return io.Float.Input(name, default=1.0, min=-100.0, max=100.0, step=0.01, tooltip=tooltip)


class UserLoraLoader(io.ComfyNode):
    """Inputs and outputs of LoraLoader."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What the editor shows."""
        return io.Schema(
            node_id="UserLoraLoader",
            display_name="Load LoRA (my library)",
            category="loaders",
            description="Applies a LoRA of your own library, fetching it first if need be.",
            inputs=[
                io.Model.Input("model", tooltip="The diffusion model the LoRA will be applied to."),
                io.Clip.Input("clip", tooltip="The CLIP model the LoRA will be applied to."),
                _lora_name(),
                _strength("strength_model", "diffusion model"),
                _strength("strength_clip", "CLIP model"),
            ],
            outputs=[
                io.Model.Output(tooltip="The modified diffusion model."),
                io.Clip.Output(tooltip="The modified CLIP model."),
            ],
        )

    @classmethod
    def validate_inputs(cls, lora_name: Any) -> bool | str:
        """Refuse what cannot be a name before anything runs. A linked name is not known yet."""
        return lora_name is None or lora_files.flaw_in_name(lora_name) or True

    @classmethod
    def fingerprint_inputs(
        cls,
        lora_name: Any = None,
        strength_model: Any = 1.0,
        strength_clip: Any = 1.0,
        **_linked: Any,
    ) -> Any:
        """Changes when the name's content does, so that the node runs again then and only then."""
        return _fingerprint(lora_name, strength_model, strength_clip)

    @classmethod
    def execute(
        cls, model: Any, clip: Any, lora_name: str, strength_model: float, strength_clip: float
    ) -> io.NodeOutput:
        """The model and the CLIP with the LoRA applied."""
        return io.NodeOutput(*_apply(model, clip, lora_name, strength_model, strength_clip))


class UserLoraLoaderModelOnly(io.ComfyNode):
    """Inputs and outputs of LoraLoaderModelOnly."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What the editor shows."""
        return io.Schema(
            node_id="UserLoraLoaderModelOnly",
            display_name="Load LoRA (my library, model only)",
            category="loaders",
            description="Applies a LoRA of your own library to the diffusion model alone.",
            inputs=[
                io.Model.Input("model", tooltip="The diffusion model the LoRA will be applied to."),
                _lora_name(),
                _strength("strength_model", "diffusion model"),
            ],
            outputs=[io.Model.Output(tooltip="The modified diffusion model.")],
        )

    @classmethod
    def validate_inputs(cls, lora_name: Any) -> bool | str:
        """As UserLoraLoader."""
        return lora_name is None or lora_files.flaw_in_name(lora_name) or True

    @classmethod
    def fingerprint_inputs(
        cls, lora_name: Any = None, strength_model: Any = 1.0, **_linked: Any
    ) -> Any:
        """As UserLoraLoader."""
        return _fingerprint(lora_name, strength_model, 0.0)

    @classmethod
    def execute(cls, model: Any, lora_name: str, strength_model: float) -> io.NodeOutput:
        """The model with the LoRA applied."""
        return io.NodeOutput(_apply(model, None, lora_name, strength_model, 0.0)[0])


def _apply(
    model: Any, clip: Any, name: str, strength_model: float, strength_clip: float
) -> tuple[Any, Any]:
    if strength_model == 0 and strength_clip == 0:
        return model, clip
    if (flaw := lora_files.flaw_in_name(name)) is not None:
        raise ValueError(flaw)
    path = _on_disk(name)
    import comfy.sd
    import comfy.utils

    try:
        lora = comfy.utils.load_torch_file(str(path), safe_load=True)
    except Exception as error:
        raise RuntimeError(
            f"The file of LoRA '{name}' cannot be read ({type(error).__name__}). Delete "
            f"{path.name} from ComfyUI's LoRA folder and run again, or upload the LoRA anew."
        ) from error
    patched: tuple[Any, Any] = comfy.sd.load_lora_for_models(
        model, clip, lora, strength_model, strength_clip
    )
    return patched


def _on_disk(name: str) -> Path:
    """The LoRA's file, fetched first where it is missing."""
    try:
        file = gateway.ensure(_prompt_id(), name, _shown_progress())
    except gateway.SidecarAwayError as error:
        if (listed := lora_files.find_listed(name)) is not None:
            return listed
        raise RuntimeError(
            f"LoRA '{name}' is not on this machine, and Atelier's sidecar, which would fetch it, "
            f"is away ({error}). ComfyUI's log says why it is not running; run again once it is."
        ) from error
    except gateway.RefusedError as error:
        raise RuntimeError(
            f"LoRA '{name}': {error.message} {_REMEDIES.get(error.code, _ANY_REMEDY)}"
        ) from error
    if (found := lora_files.find(file.path)) is not None:
        return found
    raise RuntimeError(
        f"LoRA '{name}' was fetched, but ComfyUI does not see {file.path} in its LoRA folders. "
        "Set COMFYUI_LORAS_DIR to one of them and restart ComfyUI."
    )


_ANY_REMEDY = "ComfyUI's log has the details."
_REMEDIES = {
    "lora_not_found": "Upload it, or choose another one and run again.",
    "invalid_lora_name": "Choose a LoRA from the list.",
    "foreign_lora": "It is somebody else's: choose one of your own.",
    "sign_in_required": "This prompt was queued while Atelier's sidecar was away, so nobody knows "
    "whose it is. Queue it again, signed in.",
    "disk_full": "Free some space in ComfyUI's LoRA folder and run again.",
}


def _shown_progress() -> gateway.Progress:
    """Shows bytes as the node's progress; raises ComfyUI's own exception when interrupted."""
    import comfy.model_management
    import comfy.utils

    bar = comfy.utils.ProgressBar(1)

    def show(value: int, maximum: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if maximum > 0:
            bar.update_absolute(value, maximum)

    return show


def _fingerprint(name: Any, strength_model: Any, strength_clip: Any) -> Any:
    if strength_model == 0 and strength_clip == 0:
        return "unused"
    if not isinstance(name, str):
        # linked: what it will be is not known here, and an old version must not be reused
        return float("nan")
    if lora_files.is_pinned(name):
        return name
    try:
        file = gateway.resolve(_prompt_id(), name)
    except gateway.RefusedError as error:
        return error.code
    except gateway.SidecarAwayError:
        return _stamp(name)
    return file.sha256 or _stamp(file.path)


def _stamp(name: str) -> str:
    """What changes when a file that we know nothing of does."""
    path = lora_files.find(name)
    if path is None:
        return "missing"
    status = path.stat()
    return f"{status.st_mtime_ns}-{status.st_size}"


def _prompt_id() -> str | None:
    context = get_executing_context()
    return None if context is None else context.prompt_id

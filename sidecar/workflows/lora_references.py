"""Which inputs of a prompt name a LoRA file, found from what ComfyUI says about its nodes."""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from ..comfyui import ObjectInfo, Prompt
from .node_inputs import COMBO, InputDescription, describe
from .prompt_shape import is_link, is_wrapped, unwrapped

_LORA_INPUT = re.compile(r"(?:[a-z0-9]+_)*?lora(?:_name)?(?:_?\d+)?|lora_\d+_name", re.IGNORECASE)
_TYPED_IN = re.compile(r"lora_name(?:_?\d+)?", re.IGNORECASE)
_NUMBERED = re.compile(r".*\d+(?:_name)?")
# ComfyUI's own names for files of other folders: one file name may well stand in two of them
_OTHER_FOLDER = re.compile(
    r"(?:ckpt|checkpoint|vae|unet|clip|clip_vision|control_net|controlnet|style_model|gligen|"
    r"hypernetwork|upscale_model|text_encoder|audio_encoder)(?:_name)?_?\d*",
    re.IGNORECASE,
)
_MODEL_FILE = re.compile(
    r".+\.(?:safetensors|sft|ckpt|pt2?|pth|bin|pkl|gguf)", re.IGNORECASE | re.DOTALL
)
# what only our names of LoRAs look like: with a version, or with an owner
_OUR_NAME = re.compile(r".+@[0-9]{1,9}|@[^/\\]+[/\\].+", re.DOTALL)
_OUR_WIDGET = "ATELIER_LORA"


@dataclass(frozen=True)
class LoraReference:
    """A place in a prompt that names a LoRA.

    ``input`` is the path inside the node's inputs: ``("lora_name",)``, or ``("lora_1", "lora")``
    in a row of rgthree's loader. ``value`` is what stands there, of whatever type.
    """

    node: str
    class_type: str
    input: tuple[str, ...]
    value: Any = field(hash=False)


def lora_references(
    prompt: Prompt, object_info: ObjectInfo, listed: Sequence[str]
) -> list[LoraReference]:
    """Every LoRA that the prompt names, in its order. ``listed`` are ComfyUI's own LoRA files.

    Not among them: values that come from another node, slots of a stack that are not in use, and
    rows of rgthree's loader that are switched off.
    """
    inputs = KnownInputs(object_info, listed)
    return [
        LoraReference(node_id, node["class_type"], path, value)
        for node_id, node in prompt.items()
        for name, given in node["inputs"].items()
        if not is_link(given)
        for path, value in _named_in(name, given, inputs.of(node["class_type"], name))
    ]


def replace_loras(prompt: Prompt, names: Mapping[LoraReference, str]) -> Prompt:
    """A deep copy of the prompt with each reference's value replaced."""
    replaced = copy.deepcopy(prompt)
    for reference, name in names.items():
        place = replaced[reference.node]["inputs"]
        for step in reference.input[:-1]:
            place = place[step]
        place[reference.input[-1]] = name
    return replaced


def in_listed_form(path: PurePosixPath, listed: Sequence[str]) -> str:
    """The path as this ComfyUI spells it: as listed, or with the separator that it lists with."""
    for entry in listed:
        if entry.replace("\\", "/") == str(path):
            return entry
    on_windows = any("\\" in entry for entry in listed) and not any("/" in e for e in listed)
    return str(path).replace("/", "\\") if on_windows else str(path)


@dataclass(frozen=True)
class KnownInput:
    """What is known of one input: its description, and whether it takes the name of a LoRA file.

    An input that its class does not declare has no description.
    """

    description: InputDescription | None
    takes_lora: bool
    offers_none: bool


class KnownInputs:
    """Every input that a prompt's nodes have, looked at once: a choice may list 10,000 files."""

    def __init__(self, object_info: ObjectInfo, listed: Sequence[str]) -> None:
        self._object_info = object_info
        self._listed = frozenset(listed)
        self._known: dict[tuple[str, str], KnownInput] = {}

    def of(self, class_type: str, name: str) -> KnownInput:
        """The input ``name`` of a node class."""
        key = (class_type, name)
        if key not in self._known:
            description = describe(self._object_info, class_type, name)
            options = (description and description.options) or ()
            self._known[key] = KnownInput(
                description,
                description is not None and _takes_lora(name, description, self._listed),
                any(is_none(option) for option in options),
            )
        return self._known[key]


def _takes_lora(name: str, description: InputDescription, listed: frozenset[str]) -> bool:
    """Whether an input takes the name of a LoRA file.

    Most of its choices are LoRA files (most, because the two lists are asked for one after the
    other); or it is called like one, and no choice is anything but a model file. A text counts
    when it is called ``lora_name``, or when it is our own node's.
    """
    if description.kind == COMBO:
        choices = {o for o in description.options or () if isinstance(o, str)}
        files = {choice for choice in choices if not is_none(choice)}
        if _LORA_INPUT.fullmatch(name):
            return all(_MODEL_FILE.fullmatch(choice) for choice in files)
        found = len(files & listed)
        return found > 0 and 2 * found >= len(files) and not _OTHER_FOLDER.fullmatch(name)
    if description.kind == "STRING":
        ours = description.settings.get("widgetType") == _OUR_WIDGET
        return ours or _TYPED_IN.fullmatch(name) is not None
    return False


def is_lora_row(value: Any) -> bool:
    """Whether it is a row of rgthree's loader: ``{"on": bool, "lora": name, "strength": x}``."""
    return isinstance(value, dict) and "lora" in value and ("on" in value or "strength" in value)


def is_none(value: Any) -> bool:
    """Whether a text says that no LoRA is chosen: empty, ``None``, ``none``, ``[None]``."""
    return isinstance(value, str) and value.strip(" []()-").casefold() in ("", "none")


def _is_plainly_a_lora(value: str) -> bool:
    return any(each.fullmatch(value) for each in (_MODEL_FILE, _OUR_NAME))


def _named_in(name: str, given: Any, known: KnownInput) -> Iterator[tuple[tuple[str, ...], Any]]:
    """``(path, value)`` of the LoRA that one input names, if it names one."""
    path = (name, "__value__") if is_wrapped(given) else (name,)
    value = unwrapped(given)
    if is_lora_row(value):
        lora = value["lora"]
        # no link is followed inside of a row: one that stands there is no name either
        if value.get("on", True) and lora is not None and not is_none(lora):
            yield (*path, "lora"), lora
    elif known.description is None:
        # a node that takes inputs it does not declare: only what is plainly a LoRA counts
        if _LORA_INPUT.fullmatch(name) and isinstance(value, str) and _is_plainly_a_lora(value):
            yield path, value
    elif known.takes_lora:
        # a slot that offers "no LoRA", and has it chosen, names none
        may_be_empty = known.offers_none or _NUMBERED.fullmatch(name) is not None
        if not (may_be_empty and is_none(value)):
            yield path, value

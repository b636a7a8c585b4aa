"""The one admission that every prompt passes, from REST and from the editor alike."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..comfyui import ComfyUI, ObjectInfo, Prompt
from ..errors import ForbiddenError, InvalidError, TimedOutError, UnavailableError
from ..loras.models import LoraPin
from ..loras.resolve import LoraResolver
from ..principal import Principal
from ..workflows.graph import (
    DeclaredInput,
    apply_inputs,
    foreign_paths,
    in_listed_form,
    lora_references,
    refuse_endless_numbers,
    replace_loras,
    require_prompt,
    unknown_classes,
)

OWN_LOADERS = frozenset({"UserLoraLoader", "UserLoraLoaderModelOnly"})
"""Our own nodes fetch what they need when they run; every other node needs it on disk before."""


@dataclass(frozen=True)
class Admitted:
    """A prompt that may run: every LoRA reference names a pinned file or one of ComfyUI's own.

    ``needed_first`` are the pins that ComfyUI's validation looks for on disk.
    """

    prompt: Prompt
    pins: Sequence[LoraPin]
    needed_first: Sequence[LoraPin]


class Admission:
    """Decides what may run, and as what."""

    def __init__(self, comfyui: ComfyUI, loras: LoraResolver) -> None:
        self._comfyui = comfyui
        self._loras = loras

    async def admit(
        self,
        principal: Principal,
        given: Any,
        declared: Sequence[DeclaredInput] = (),
        params: Mapping[str, Any] | None = None,
    ) -> Admitted:
        """Check a prompt, apply inputs and pin its LoRAs.

        Raises InvalidError (422) for what cannot run as asked, ForbiddenError("foreign_path") for
        another account's folder, UnavailableError("comfyui") when its nodes are not known yet.
        """
        prompt = await asyncio.to_thread(require_prompt, given)
        object_info = await self._known_nodes(prompt)
        listed = await self._listed()
        prompt = apply_inputs(prompt, declared, params or {}, object_info, listed)
        refuse_endless_numbers(prompt, object_info)
        await asyncio.to_thread(_refuse_foreign, prompt, principal)
        references = lora_references(prompt, object_info, listed)
        names = list(dict.fromkeys(_name(reference.value) for reference in references))
        resolved = await self._loras.pin(principal, names) if names else {}
        replaced, pins, first = {}, {}, {}
        for reference in references:
            found = resolved[_name(reference.value)]
            if isinstance(found, LoraPin):
                replaced[reference] = in_listed_form(found.path, listed)
                pins[found.path] = found
                if reference.class_type not in OWN_LOADERS:
                    first[found.path] = found
            else:
                replaced[reference] = found
        return Admitted(
            replace_loras(prompt, replaced), tuple(pins.values()), tuple(first.values())
        )

    async def _known_nodes(self, prompt: Prompt) -> ObjectInfo:
        object_info = await self._comfyui.object_info()
        if unknown_classes(prompt, object_info):  # a pack may have been installed since
            object_info = await self._comfyui.object_info(fresh=True)
        if unknown := unknown_classes(prompt, object_info):
            nodes = dict(unknown)
            raise InvalidError(
                "unknown_nodes",
                "ComfyUI does not have these node classes: "
                + ", ".join(sorted(set(nodes.values()))),
                {"nodes": nodes},
            )
        return object_info

    async def _listed(self) -> Sequence[str]:
        try:
            return await self._comfyui.lora_files()
        except (UnavailableError, TimedOutError):
            return ()  # it restarts: what is in the library can be resolved without it


def _refuse_foreign(prompt: Prompt, principal: Principal) -> None:
    if foreign := foreign_paths(prompt, principal.folder):
        raise ForbiddenError(
            "foreign_path",
            "The prompt names files of another account.",
            {"inputs": [f"{node}.{name}" for node, name, _ in foreign]},
        )


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidError(
            "invalid_lora_name", "A LoRA is named by text.", {"names": [repr(value)[:100]]}
        )
    return value

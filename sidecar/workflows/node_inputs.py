"""What ComfyUI's own object_info says about one input of one node class."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..comfyui import ObjectInfo

COMBO = "COMBO"
VALUE_KINDS = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", COMBO})


@dataclass(frozen=True)
class InputDescription:
    """One input as its node class declares it.

    ``kind`` is ComfyUI's type (``INT``, ``MODEL``, ...); every kind of choice is ``COMBO``.
    ``options`` are a choice's values, None where the class does not list them.
    """

    kind: str
    options: tuple[Any, ...] | None
    settings: Mapping[str, Any]

    @property
    def uploads(self) -> bool:
        """Whether it names an uploaded file, which its class checks itself, off the list."""
        return any(name.endswith("_upload") and on for name, on in self.settings.items())


def describe(object_info: ObjectInfo, class_type: str, name: str) -> InputDescription | None:
    """The description of an input, or None when the class does not declare it.

    Choices come in three spellings: ``[[values], {}]``, ``["COMBO", {"options": [values]}]`` and
    ``["COMBO", {"remote": ...}]``.
    """
    spec = _declared(object_info.get(class_type), name)
    if not isinstance(spec, (list, tuple)) or not spec:
        return None
    kind = spec[0]
    settings = spec[1] if len(spec) > 1 and isinstance(spec[1], Mapping) else {}
    if isinstance(kind, (list, tuple)):
        return InputDescription(COMBO, tuple(kind), settings)
    if kind == COMBO:
        options = settings.get("options")
        listed = tuple(options) if isinstance(options, (list, tuple)) else None
        return InputDescription(COMBO, listed, settings)
    return InputDescription(str(kind), None, settings)


def _declared(node_class: Any, name: str) -> Any:
    groups = node_class.get("input") if isinstance(node_class, Mapping) else None
    if not isinstance(groups, Mapping):
        return None
    for group in ("required", "optional"):
        names = groups.get(group)
        if isinstance(names, Mapping) and name in names:
            return names[name]
    return None

"""Texts in a prompt that name another account's folder."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..comfyui import Prompt

_HEX = "[0-9a-f]"
_USER_FOLDER = re.compile(
    rf"(?<![0-9a-z_-])user-{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}(?![0-9a-z_-])"
)
# the short names that Windows gives such a folder: USER-1~1, and US1A2B~1 from the fifth on
_SHORT_NAME = re.compile(r"(?<![0-9a-z_-])us[0-9a-z-]{2,4}~\d+(?=[/\\])")


class ForeignPath(NamedTuple):
    """A text at ``node``'s ``input`` (however deep inside it, or its name) that names a foreign
    folder. What stands in a node's ``_meta`` has that for its input.
    """

    node: str
    input: str
    value: str


def foreign_paths(prompt: Prompt, own_folder: str) -> list[ForeignPath]:
    """Every text that names a ``user-<uuid>`` folder other than ``own_folder``.

    Naming it anywhere is enough: in the middle of a path, in ``<lora:...>``, with any separator,
    in any case, and also where a ``..`` after it would lead out again. Percent-encoding is not
    decoded: ComfyUI does not decode it either.
    """
    own = own_folder.casefold()
    return [
        ForeignPath(node_id, name, text)
        for node_id, node in prompt.items()
        for name, value in _places(node)
        for text in _texts({name: value})
        if _names_another(text, own)
    ]


def _places(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from node["inputs"].items()
    if "_meta" in node:
        yield "_meta", node["_meta"]


def _names_another(text: str, own: str) -> bool:
    folded = _folded(text)
    return any(found != own for found in _USER_FOLDER.findall(folded)) or (
        _SHORT_NAME.search(folded) is not None
    )


def _folded(text: str) -> str:
    """As the most forgiving file system sees it: no case, no width, no invisible characters."""
    if not text.isascii():
        visible = "".join(c for c in text if unicodedata.category(c) != "Cf")
        text = unicodedata.normalize("NFKC", visible)
    return text.casefold()


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, the keys of objects included."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            stack.extend(item)
            stack.extend(item.values())
        elif isinstance(item, (list, tuple)):
            stack.extend(item)

"""Texts in a prompt that name another account's folder."""

import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from ..comfyui import Prompt

_HEX = "[0-9a-f]"
# each begins with plain letters, which are searched for fast, and looks back over them
_USER_FOLDER = re.compile(
    rf"user-(?<![0-9a-z_-]user-){_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}"
    r"(?![0-9a-z_-])"
)
# the short names that Windows gives such a folder: USER-1~1, and US1A2B~1 from the fifth on
_SHORT_NAME = re.compile(r"us(?<![0-9a-z_-]us)[0-9a-z-]{2,4}~[0-9]{1,6}(?=[/\\])")
_PLANES = (range(0x20000), range(0xE0000, 0xE1000))
"""All that is invisible or looks like ASCII; the rest of Unicode is ideographs and unassigned."""
_LONGEST = 64
"""Characters of what either finds, and more."""
_PIECE = 1 << 16
"""Characters worked on at a time: between two pieces other threads, the event loop's too, go on."""


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
    for start in range(0, len(folded), _PIECE):
        next_start = start + _PIECE
        end = next_start + _LONGEST
        for found in _USER_FOLDER.finditer(folded, start, end):
            if found.start() < next_start and found[0] != own:
                return True
        if _SHORT_NAME.search(folded, start, end):
            return True
    return False


def _folded(text: str) -> str:
    """As the most forgiving file system sees it: no case, no width, no invisible characters.

    Each character by itself (NFKC of a whole text takes the square of its accents in time); what
    can be no part of a folder's name becomes a blank.
    """
    if text.isascii():
        return text.lower()
    table = _folding()
    pieces = (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))
    return "".join(piece.translate(table) for piece in pieces)


@cache
def _folding() -> list[str]:
    """What each code point becomes. A list: looking into it is what ``translate`` does fastest."""
    table = [" "] * (sys.maxunicode + 1)
    for plane in _PLANES:
        for character in map(chr, plane):
            if unicodedata.category(character) == "Cf":
                folded = ""
            else:
                folded = unicodedata.normalize("NFKC", character).casefold()
            table[ord(character)] = "".join(c if c.isascii() else " " for c in folded)
    return table


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

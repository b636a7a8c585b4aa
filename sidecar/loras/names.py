"""What people may call a LoRA, and how a prompt refers to one.

A name is kept as typed. Its *stem*, the case-folded form, is what must be unique and what files
are called, so that ``Style`` and ``style`` collide on every database and every file system alike.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar
from uuid import UUID

from ..errors import ForbiddenError, InvalidError

SUFFIX = ".safetensors"
MAX_CHARACTERS = 200
MAX_STEM_BYTES = 200
"""With hash, suffix and a mark for unfinished files it stays below a file system's 255 bytes."""
MAX_TYPED = 1000
"""Characters of a name before it is put in its one form. Doing that takes the square of its accents
in time, and leaves at least one character of four."""
MAX_REFERENCE = 280
"""A pinned path with the longest stem has 263 characters."""
MAX_SHARED_REFERENCE = 500
"""The longest e-mail address has 254 characters."""

_TOO_LONG = f"it is longer than {MAX_CHARACTERS} characters or {MAX_STEM_BYTES} bytes"
_NOT_IN_FILE_NAMES = set('<>:"/\\|?*')
_JOINERS = {"\u200c", "\u200d"}  # Persian and emoji need them
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])", re.IGNORECASE)
_USER_FOLDER = re.compile(r"user-", re.IGNORECASE)
_SEPARATOR = re.compile(r"[/\\]")
_DRIVE = re.compile(r"[A-Za-z]:")
_ENDS_LIKE_A_VERSION = re.compile(r"@[0-9]+\Z")
# more digits are no number that a version can have
_PICKED = re.compile(
    r"(.+?)(?:\.safetensors)?@([0-9]{1,9})(?:\.safetensors)?", re.IGNORECASE | re.DOTALL
)
_OWNER = re.compile(
    r"@([^@]+@[^@]+|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})", re.IGNORECASE
)


@dataclass(frozen=True)
class LoraName:
    """An accepted name, without the suffix, and its stem."""

    name: str
    stem: str


class Picked(NamedTuple):
    """One version, as ``name@2`` writes it."""

    stem: str
    version: int


class Called(Protocol):
    """Whatever has a stem."""

    @property
    def stem(self) -> str:
        """What it is called, case-folded."""


C = TypeVar("C", bound=Called)


@dataclass(frozen=True)
class FileReference:
    """A relative path in a prompt, with ``/``.

    ``stem`` is what it may name in a library; where nothing there has that, ``picked`` is what it
    means.
    """

    path: str
    stem: str | None
    picked: Picked | None = None

    def meant(self, loras: Sequence[C]) -> Sequence[C]:
        """Those that it names: an exact name wins over a version."""
        exact = [lora for lora in loras if lora.stem == self.stem]
        if exact or self.picked is None:
            return exact
        return [lora for lora in loras if lora.stem == self.picked.stem]

    def version_of(self, lora: Called) -> int | None:
        """The version of one that it names; None: the head."""
        return None if self.picked is None or lora.stem == self.stem else self.picked.version


@dataclass(frozen=True)
class OwnedReference(FileReference):
    """A LoRA named with its owner, ``@<e-mail or id>/<name>``; ``owner`` as it was written."""

    owner: str = ""


@dataclass(frozen=True)
class PinnedReference:
    """A file in the caller's own folder, by its name there."""

    filename: str


def lora_name(text: str) -> LoraName:
    """Accept a name, with or without ``.safetensors``; InvalidError("invalid_lora_name")."""
    typed = text.strip()
    if len(typed) > MAX_TYPED:
        raise _no_name(typed, _TOO_LONG)
    name = unicodedata.normalize("NFC", typed)
    if name.casefold().endswith(SUFFIX):
        name = name[: -len(SUFFIX)].rstrip()
    stem = stem_of(name)
    if (problem := _problem(name, stem)) is not None:
        raise _no_name(name, problem)
    return LoraName(name, stem)


def owned_name(owner: str, name: str, version: int | None = None) -> str:
    """How a prompt names somebody's LoRA, or one version of it."""
    return f"@{owner}/{name}" if version is None else f"@{owner}/{name}@{version}"


def stem_of(name: str) -> str:
    """The case-folded form of a name, the same for every spelling of it."""
    folded = unicodedata.normalize("NFC", name).casefold()
    return unicodedata.normalize("NFC", folded)


def object_key(owner_id: UUID, new_id: UUID) -> str:
    """Where the bytes of a new version are kept; never used for others."""
    return f"user-{owner_id}/loras/{new_id}{SUFFIX}"


def owner_of(key: str) -> UUID:
    """Whose an object key is."""
    return UUID(key.partition("/")[0].removeprefix("user-"))


def filename(stem: str, sha256: str) -> str:
    """What a version's file is called on ComfyUI's disk."""
    return f"{stem}.{sha256[:8]}{SUFFIX}"


def is_in_user_folder(path: str) -> bool:
    """Whether a relative path, with either separator, is in somebody's folder."""
    return len(_SEPARATOR.split(path)) > 1 and _USER_FOLDER.match(path) is not None


def parse_reference(value: Any, own_folder: str) -> FileReference | PinnedReference:
    """Read what a prompt holds as a LoRA's name.

    ForbiddenError("foreign_lora") for a path that is or may be in someone else's folder, else
    InvalidError("invalid_lora_name") for what can be no file below ComfyUI's LoRA folder.
    """
    if not isinstance(value, str) or len(value) > _longest(value):
        raise _invalid(value)
    path = value.replace("\\", "/")
    segments = path.split("/")
    if _is_foreign(segments, own_folder):
        raise ForbiddenError("foreign_lora", f"{value[:80]!r} is not yours.", {"names": [value]})
    if not value or _DRIVE.match(path):
        raise _invalid(value)
    if any(segment.strip() in ("", ".", "..") for segment in segments):
        raise _invalid(value)
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in value):
        raise _invalid(value)
    if len(segments) > 1 and segments[0].casefold() == own_folder:
        return PinnedReference("/".join(segments[1:]))
    if len(segments) == 2 and (owner := _OWNER.fullmatch(segments[0].strip())) is not None:
        return OwnedReference(path, *_named(segments[1]), owner=owner[1])
    if len(segments) > 1:
        return FileReference(path, None)
    return FileReference(path, *_named(path))


def _longest(value: str) -> int:
    return MAX_SHARED_REFERENCE if value.startswith("@") else MAX_REFERENCE


def _named(text: str) -> tuple[str, Picked | None]:
    """The stem that a text is, and the version that it may name instead."""
    found = _PICKED.fullmatch(text.strip())
    picked = None if found is None else Picked(stem_of(found[1].strip()), int(found[2]))
    bare = text[: -len(SUFFIX)] if text.casefold().endswith(SUFFIX) else text
    return stem_of(bare.strip()), picked


def _no_name(name: str, problem: str) -> InvalidError:
    return InvalidError(
        "invalid_lora_name",
        f"A LoRA cannot be called {name[:80]!r}: {problem}.",
        {"names": [name[:MAX_REFERENCE]], "reason": problem},
    )


def _problem(name: str, stem: str) -> str | None:
    if not name:
        return "it is empty"
    if len(name) > MAX_CHARACTERS or len(stem.encode("utf-8", "replace")) > MAX_STEM_BYTES:
        return _TOO_LONG
    if any(c in _NOT_IN_FILE_NAMES for c in name):
        return 'it holds one of < > : " / \\ | ? *'
    if not all(_is_visible(c) for c in name):
        return "it holds a control character or an invisible one"
    if name.startswith(".") or name.endswith("."):
        return "it starts or ends with a dot"
    if _ENDS_LIKE_A_VERSION.search(name):
        return "what ends in @ and a number means a version"
    if _DEVICES.fullmatch(stem.split(".")[0].rstrip()):
        return "Windows keeps this name for a device"
    return None


def _is_visible(character: str) -> bool:
    """Marks that turn the direction of writing hide what a name says; they are of kind Cf."""
    return character in _JOINERS or unicodedata.category(character) not in {
        "Cc", "Cf", "Cs", "Cn", "Zl", "Zp",
    }  # fmt: skip


def _is_foreign(segments: list[str], own_folder: str) -> bool:
    """Whether a path leads into, or with ``..`` also only through, somebody else's folder."""
    folders = [part for part in segments[:-1] if part.strip() not in ("", ".", "..")]
    entered = folders if ".." in segments else folders[:1]
    return any(_USER_FOLDER.match(part) and part.casefold() != own_folder for part in entered)


def _invalid(value: Any) -> InvalidError:
    shown = value[:MAX_REFERENCE] if isinstance(value, str) else value
    return InvalidError(
        "invalid_lora_name", f"{str(shown)[:80]!r} is no name of a LoRA.", {"names": [shown]}
    )

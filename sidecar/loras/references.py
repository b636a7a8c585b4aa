"""LoRA names as prompts write them, sorted by where they may be found."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ..errors import ForbiddenError, InvalidError
from .names import (
    SUFFIX,
    FileReference,
    OwnedReference,
    PinnedReference,
    is_in_user_folder,
    parse_reference,
)


@dataclass(frozen=True)
class References:
    """Well-formed names, each once: what the library or ComfyUI may have, pinned paths, and LoRAs
    named with their owners."""

    files: Mapping[str, FileReference]
    pinned: Mapping[str, PinnedReference]
    owned: Mapping[str, OwnedReference]

    @property
    def names(self) -> Sequence[str]:
        """All of them."""
        return [*self.files, *self.pinned, *self.owned]

    @property
    def named(self) -> Mapping[str, FileReference]:
        """Those that a library may have by name."""
        return {**self.files, **self.owned}

    @property
    def stems(self) -> set[str]:
        """All that LoRAs meant by them may be called."""
        stems = {each.stem for each in self.named.values() if each.stem is not None}
        return stems | {each.picked.stem for each in self.named.values() if each.picked is not None}

    def only(self, names: Collection[str]) -> "References":
        """Those among these names."""
        return References(
            {name: each for name, each in self.files.items() if name in names},
            {name: each for name, each in self.pinned.items() if name in names},
            {name: each for name, each in self.owned.items() if name in names},
        )

    def shared(self, listed: Sequence[str]) -> dict[str, str]:
        """ComfyUI's spelling of each name that is a shared file, with or without its suffix."""
        files = shared_files(listed)
        found = {}
        for name, reference in self.files.items():
            spelling = files.get(reference.path) or files.get(reference.path + SUFFIX)
            if spelling is not None:
                found[name] = spelling
        return found


def shared_files(listed: Sequence[str]) -> dict[str, str]:
    """The listed files that are in nobody's folder: path with ``/`` to the listed spelling."""
    return {name.replace("\\", "/"): name for name in listed if not is_in_user_folder(name)}


def read_references(own_folder: str, names: Sequence[str]) -> References:
    """Read every name before refusing any, foreign ones first.

    ForbiddenError("foreign_lora"), InvalidError("invalid_lora_name"), with all ``details.names``.
    """
    files: dict[str, FileReference] = {}
    pinned: dict[str, PinnedReference] = {}
    owned: dict[str, OwnedReference] = {}
    foreign: list[str] = []
    invalid: list[str] = []
    for name in names:
        try:
            reference = parse_reference(name, own_folder)
        except ForbiddenError:
            foreign.append(name)
        except InvalidError:
            invalid.append(name)
        else:
            if isinstance(reference, PinnedReference):
                pinned[name] = reference
            elif isinstance(reference, OwnedReference):
                owned[name] = reference
            else:
                files[name] = reference
    if foreign:
        raise ForbiddenError(
            "foreign_lora", f"Not yours: {_quoted(foreign)}.", {"names": _once(foreign)}
        )
    if invalid:
        raise InvalidError(
            "invalid_lora_name",
            f"No name of a LoRA: {_quoted(invalid)}.",
            {"names": _once(invalid)},
        )
    return References(files, pinned, owned)


def _once(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(repr(name)[:80] for name in _once(names))

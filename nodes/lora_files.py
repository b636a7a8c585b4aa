"""LoRA files below ComfyUI's own folders, and nothing outside of them."""

import re
from pathlib import Path

PINNED = re.compile(r"user-[^/\\]+[/\\].*\.[0-9a-f]{8}\.safetensors", re.IGNORECASE | re.DOTALL)
"""A file whose name says its content: it never changes."""

MAX_NAME = 500


def flaw_in_name(name: object) -> str | None:
    """Why this cannot name a LoRA, for people; None when it can."""
    if not isinstance(name, str):
        return "lora_name must be a text."
    if not name.strip():
        return "lora_name is empty: choose a LoRA."
    if len(name) > MAX_NAME:
        return f"lora_name has more than {MAX_NAME} characters."
    if _parts(name) is None:
        return f"lora_name {name!r} does not name a file below the LoRA folder."
    return None


def is_pinned(name: str) -> bool:
    """Whether the name itself says the content."""
    return PINNED.fullmatch(name) is not None


def find(name: str) -> Path | None:
    """The file of that name (either separator) in the first LoRA folder that has it, or None."""
    import folder_paths

    parts = _parts(name)
    if parts is None:
        return None
    found = folder_paths.get_full_path("loras", str(Path(*parts)))
    return None if found is None else Path(found)


def find_listed(name: str) -> Path | None:
    """The same, if ComfyUI lists it among its LoRAs: never a half-written file."""
    import folder_paths

    wanted = _parts(name)
    listed = folder_paths.get_filename_list("loras")
    return find(name) if wanted and wanted in map(_parts, listed) else None


def _parts(name: str) -> list[str] | None:
    """The folders and the file; None for a name that is absolute, climbs, or is no path at all."""
    parts = re.split(r"[/\\]", name)
    if "\0" in name or any(part in ("", ".", "..") for part in parts):
        return None
    # C:x is a path of its own on Windows, x:y a hidden stream of x
    return None if any(":" in part for part in parts) else parts

"""What names in a prompt stand for: a pinned version, or a file of ComfyUI's own."""

from collections.abc import Sequence

from ..comfyui import ComfyUI
from ..database import Database
from ..errors import InvalidError
from ..principal import Principal
from .models import LoraPin
from .references import References, read_references
from .store import LoraStore


class LoraResolver:
    """Pins what people write."""

    def __init__(self, database: Database, comfyui: ComfyUI) -> None:
        self._database = database
        self._comfyui = comfyui

    async def pin(self, principal: Principal, names: Sequence[str]) -> dict[str, LoraPin | str]:
        """What each name, as written in a prompt, stands for.

        A LoraPin for the caller's own (the head, or the version that a pinned path names), else
        the spelling that ComfyUI lists for a file that is nobody's. Every name is looked at before
        any is refused: ForbiddenError("foreign_lora"), InvalidError("invalid_lora_name"),
        InvalidError("lora_not_found"), each with all its ``details.names``. Asks ComfyUI only for
        names that the library does not have, and then raises what that raises.
        """
        wanted = read_references(principal.folder, names)
        async with self._database.transaction(principal, read_only=True) as tx:
            found = await _own(LoraStore(tx), wanted, principal.folder)
        if len(found) < len(wanted.files) + len(wanted.pinned):
            found = {**wanted.shared(await self._comfyui.lora_files()), **found}
        missing = [name for name in wanted.names if name not in found]
        if missing:
            quoted = ", ".join(f"'{name[:80]}'" for name in missing)
            raise InvalidError(
                "lora_not_found",
                f"No LoRA named {quoted} in your library or in ComfyUI.",
                {"names": missing},
            )
        return found


async def _own(store: LoraStore, wanted: References, folder: str) -> dict[str, LoraPin | str]:
    heads = await store.by_stem(
        {reference.stem for reference in wanted.files.values() if reference.stem is not None}
    )
    versions = await store.by_filename({each.filename for each in wanted.pinned.values()})
    found: dict[str, LoraPin | str] = {}
    for name, reference in wanted.files.items():
        if (head := heads.get(reference.stem or "")) is not None:
            found[name] = head.pin(folder)
    for name, pinned in wanted.pinned.items():
        if pinned.filename in versions:
            lora, version = versions[pinned.filename]
            found[name] = lora.pin(folder, version)
    return found

"""What names in a prompt stand for: a pinned version, or a file of ComfyUI's own."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias
from uuid import UUID

from ..accounts.people import People
from ..comfyui import ComfyUI
from ..database import Database
from ..errors import InvalidError
from ..principal import Principal
from .models import Lora, LoraPin, LoraVersion
from .names import FileReference, OwnedReference, owned_name
from .references import References, read_references
from .store import LoraStore
from .store.shares import SharedLoras

Found: TypeAlias = dict[str, tuple[Lora, LoraVersion]]


class LoraResolver:
    """Pins what people write."""

    def __init__(self, database: Database, comfyui: ComfyUI, people: People) -> None:
        self._database = database
        self._comfyui = comfyui
        self._people = people

    async def pin(self, principal: Principal, names: Sequence[str]) -> dict[str, LoraPin | str]:
        """What each name, as written in a prompt, stands for.

        A LoraPin for the caller's own and for what is shared with the caller (the head, or the
        version that a pinned path or ``name@2`` names), else the spelling that ComfyUI lists for a
        file that is nobody's. A bare name means the caller's own library, then ComfyUI's files,
        then what is shared.

        Every name is looked at before any is refused: ForbiddenError("foreign_lora"),
        InvalidError("invalid_lora_name", "ambiguous_lora", "lora_not_found", "lora_damaged" or
        "lora_hash_taken"), each with all its ``details.names``. Asks ComfyUI only for names that
        the library does not have, and then raises what that raises.
        """
        wanted = read_references(principal.folder, names)
        owners = await self._owners(wanted)
        async with self._database.transaction(principal, read_only=True) as tx:
            found, known = await _own(LoraStore(tx), wanted, owners, principal.id)
        files: dict[str, str] = {}
        if not wanted.files.keys() <= found.keys():
            listed = wanted.shared(await self._comfyui.lora_files())
            files = {name: file for name, file in listed.items() if name not in found}
        left = set(wanted.names) - found.keys() - files.keys() - known
        if left:
            found |= await self._shared(principal, wanted.only(left), owners)
        _refuse_missing([name for name in wanted.names if name not in {**found, **files}])
        _refuse_damaged([name for name, (_, version) in found.items() if version.is_damaged])
        pins = {
            name: lora.pin(principal.folder, version) for name, (lora, version) in found.items()
        }
        await self._refuse_alike(principal, pins)
        return {**pins, **files}

    async def _owners(self, wanted: References) -> Mapping[str, UUID]:
        """Whose LoRAs are named with their owners; those unknown are missing."""
        if not wanted.owned:
            return {}
        found = await self._people.named({each.owner for each in wanted.owned.values()})
        return {owner: account.id for owner, account in found.items()}

    async def _shared(
        self, principal: Principal, wanted: References, owners: Mapping[str, UUID]
    ) -> Found:
        """What is shared with the caller. InvalidError("ambiguous_lora") where that is several."""
        found: Found = {}
        several: dict[str, Sequence[Lora]] = {}
        async with self._database.transaction(principal, read_only=True) as tx:
            store = SharedLoras(tx)
            loras = await store.by_stem(wanted.stems)
            for name, asked in wanted.named.items():
                meant = asked.meant(loras)
                if isinstance(asked, OwnedReference):
                    meant = [lora for lora in meant if lora.owner_id == owners.get(asked.owner)]
                if len(meant) > 1:
                    several[name] = meant
                elif meant and (version := await _version(store, asked, meant[0])) is not None:
                    found[name] = (meant[0], version)
            found |= await _pinned(store, wanted)
        if several:
            raise await self._ambiguous(wanted, several)
        return found

    async def _ambiguous(
        self, wanted: References, several: Mapping[str, Sequence[Lora]]
    ) -> InvalidError:
        owners = {lora.owner_id for loras in several.values() for lora in loras}
        labels = await self._people.labels(owners)
        candidates = {
            name: [
                owned_name(labels[lora.owner_id], lora.name, wanted.named[name].version_of(lora))
                for lora in loras
            ]
            for name, loras in several.items()
        }
        first, written_out = next(iter(candidates.items()))
        return InvalidError(
            "ambiguous_lora",
            f"Several people share a LoRA named '{first[:80]}' with you: write "
            f"{' or '.join(written_out[:5])}.",
            {"names": list(candidates), "candidates": candidates},
        )

    async def _refuse_alike(self, principal: Principal, pins: Mapping[str, LoraPin]) -> None:
        """Refuse a file of another's that would take the place of one with other bytes.

        Eight digits of a hash are soon found again by who wants to.
        """
        if all(pin.owner_id == principal.id for pin in pins.values()):
            return
        hashes: dict[str, set[str]] = {pin.path.name: set() for pin in pins.values()}
        for pin in pins.values():
            hashes[pin.path.name].add(pin.sha256)
        async with self._database.transaction(principal, read_only=True) as tx:
            for filename in hashes:
                hashes[filename] |= await LoraStore(tx).sha256s_called(filename)
        alike = [name for name, pin in pins.items() if len(hashes[pin.path.name]) > 1]
        if alike:
            called = pins[alike[0]].path.name
            raise InvalidError(
                "lora_hash_taken",
                f"Two different files would both be called {called}.",
                {"names": alike},
            )


async def _own(
    store: LoraStore, wanted: References, owners: Mapping[str, UUID], own_id: UUID
) -> tuple[Found, set[str]]:
    """What the caller's library has, and every name that means it, though not that version."""
    loras = list((await store.by_stem(wanted.stems)).values())
    found: Found = {}
    known: set[str] = set()
    for name, asked in wanted.named.items():
        if isinstance(asked, OwnedReference) and owners.get(asked.owner) != own_id:
            continue
        for lora in asked.meant(loras):
            known.add(name)
            if (version := await _version(store, asked, lora)) is not None:
                found[name] = (lora, version)
    found |= await _pinned(store, wanted)
    return found, known


async def _version(
    store: LoraStore | SharedLoras, asked: FileReference, lora: Lora
) -> LoraVersion | None:
    number = asked.version_of(lora)
    return lora.head if number is None else await store.version(lora.id, number)


async def _pinned(store: LoraStore | SharedLoras, wanted: References) -> Found:
    files = await store.by_filename({each.filename for each in wanted.pinned.values()})
    return {
        name: files[each.filename] for name, each in wanted.pinned.items() if each.filename in files
    }


def _refuse_missing(names: Sequence[str]) -> None:
    if names:
        quoted = ", ".join(f"'{name[:80]}'" for name in names)
        raise InvalidError(
            "lora_not_found",
            f"No LoRA named {quoted} in your library or in ComfyUI, or shared with you.",
            {"names": list(names)},
        )


def _refuse_damaged(names: Sequence[str]) -> None:
    if names:
        quoted = ", ".join(f"'{name[:80]}'" for name in names)
        raise InvalidError(
            "lora_damaged",
            f"The stored file of {quoted} is damaged: its owner must upload it again.",
            {"names": list(names)},
        )

"""The use-cases of the LoRA library.

How files come in is in ``intake``, what prompts mean by names in ``resolve``.
"""

import logging
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID

from ..blobs import BlobStore
from ..clock import Clock
from ..comfyui import ComfyUI
from ..database import Database
from ..database.pages import Page
from ..errors import (
    AtelierError,
    ConflictError,
    NotFoundError,
    TimedOutError,
    UnavailableError,
    UpstreamError,
)
from ..principal import SYSTEM, Principal
from .models import Lora, LoraChange, LoraDetail, LoraFile, LoraQuery, LoraVersion
from .names import SUFFIX, lora_name
from .references import shared_files
from .store import LoraStore
from .store.held import HeldStore
from .sync import LoraSync

ABANDONED = timedelta(days=1)

log = logging.getLogger(__name__)


class LoraService:
    """One person's LoRAs. Someone else's are NotFoundError, as if they did not exist."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        sync: LoraSync,
        comfyui: ComfyUI,
        clock: Clock,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._sync = sync
        self._comfyui = comfyui
        self._clock = clock

    async def page(self, principal: Principal, asked: LoraQuery) -> Page[Lora]:
        """The caller's LoRAs, newest first."""
        async with self._database.transaction(principal, read_only=True) as tx:
            return await LoraStore(tx).page(asked)

    async def names(self, principal: Principal) -> Sequence[str]:
        """What a prompt may name: the caller's LoRAs, newest first, then ComfyUI's shared files.

        The caller's alone while ComfyUI is away.
        """
        async with self._database.transaction(principal, read_only=True) as tx:
            own = [f"{name}{SUFFIX}" for name in await LoraStore(tx).names()]
        try:
            listed = await self._comfyui.lora_files()
        except (UnavailableError, TimedOutError, UpstreamError):
            listed = ()
        return list(dict.fromkeys([*own, *shared_files(listed).values()]))

    async def get(self, principal: Principal, lora_id: UUID) -> LoraDetail:
        """A LoRA with its versions. NotFoundError."""
        async with self._database.transaction(principal, read_only=True) as tx:
            store = LoraStore(tx)
            lora = _found(await store.get(lora_id))
            versions = await store.versions(lora_id)
        pin = lora.pin(principal.folder)
        try:
            synced = await self._sync.is_present(pin)
        except UnavailableError:
            synced = False
        return LoraDetail(lora, versions, pin.path, synced)

    async def edit(self, principal: Principal, lora_id: UUID, change: LoraChange) -> LoraDetail:
        """Change name, description or tags. Files and pinned paths keep the name they have.

        NotFoundError, InvalidError("invalid_lora_name"), ConflictError("lora_name_taken").
        """
        name = None if change.name is None else lora_name(change.name)
        now = self._clock.now()
        async with self._database.transaction(principal) as tx:
            store = LoraStore(tx)
            _found(await store.get(lora_id))
            await store.edit(lora_id, now, name, change.description, change.tags)
        return await self.get(principal, lora_id)

    async def restore(self, principal: Principal, lora_id: UUID, version: int) -> LoraDetail:
        """Make a stored version the head again; later ones stay. NotFoundError."""
        async with self._database.transaction(principal) as tx:
            store = LoraStore(tx)
            _found(await store.get(lora_id))
            stored = _found_version(await store.version(lora_id, version))
            await store.make_head(stored, self._clock.now())
        return await self.get(principal, lora_id)

    async def delete(self, principal: Principal, lora_id: UUID) -> None:
        """Remove a LoRA, its bytes, and its files on ComfyUI's disk.

        NotFoundError; ConflictError("lora_in_use") while an unfinished run pins a version, whoever
        runs it.
        """
        async with self._database.transaction(principal, read_only=True) as tx:
            lora = _found(await LoraStore(tx).get(lora_id))
        await self._refuse_in_use(lora, None)
        async with self._database.transaction(principal) as tx:
            await tx.alone("loras")
            store = LoraStore(tx)
            versions = await store.versions(lora_id)
            await store.delete(lora_id)
        await self._remove(principal, lora, versions)

    async def delete_version(self, principal: Principal, lora_id: UUID, version: int) -> None:
        """Remove one version, its bytes and its file on ComfyUI's disk.

        NotFoundError; ConflictError("lora_in_use") while an unfinished run pins it,
        ConflictError("version_is_head") for the one that the LoRA stands for.
        """
        async with self._database.transaction(principal, read_only=True) as tx:
            store = LoraStore(tx)
            lora = _found(await store.get(lora_id))
            _found_version(await store.version(lora_id, version))
        await self._refuse_in_use(lora, version)
        async with self._database.transaction(principal) as tx:
            await tx.alone("loras")
            store = LoraStore(tx)
            lora = _found(await store.get(lora_id))
            old = _found_version(await store.version(lora_id, version))
            if lora.head.version == version:
                raise ConflictError(
                    "version_is_head",
                    f"'{lora.name}' stands for version {version}: restore another one first.",
                    {"version": version},
                )
            await store.delete_version(lora_id, version)
        await self._remove(principal, lora, [old])

    async def file(self, principal: Principal, lora_id: UUID, version: int | None) -> LoraFile:
        """The bytes of a version, by default the head. NotFoundError."""
        async with self._database.transaction(principal, read_only=True) as tx:
            store = LoraStore(tx)
            lora = _found(await store.get(lora_id))
            held = lora.head
            if version is not None:
                held = _found_version(await store.version(lora_id, version))
        opener = partial(self._blobs.open, held.object_key)
        return LoraFile(f"{lora.name}{SUFFIX}", held.bytes, held.sha256, opener)

    async def _refuse_in_use(self, lora: Lora, version: int | None) -> None:
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            in_use = await HeldStore(tx).holds(lora.id, version)
        if in_use:
            raise ConflictError(
                "lora_in_use", f"A run still needs '{lora.name}'.", {"name": lora.name}
            )

    async def _remove(
        self, principal: Principal, lora: Lora, versions: Sequence[LoraVersion]
    ) -> None:
        """Remove bytes that no row names; what fails is a sweep's affair, not the caller's."""
        for version in versions:
            removals = [partial(self._blobs.delete, version.object_key)]
            async with self._database.transaction(principal, read_only=True) as tx:
                if not await LoraStore(tx).sha256s_called(version.filename):
                    removals.append(partial(self._sync.remove, lora.pin(principal.folder, version)))
            for remove in removals:
                try:
                    await remove()
                except AtelierError as error:
                    extra = {"key": version.object_key, "code": error.code}
                    log.warning("lora.not_removed", extra=extra)


def _found(lora: Lora | None) -> Lora:
    if lora is None:
        raise NotFoundError("lora")
    return lora


def _found_version(version: LoraVersion | None) -> LoraVersion:
    if version is None:
        raise NotFoundError("lora_version")
    return version

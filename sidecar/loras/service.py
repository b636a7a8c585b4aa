"""The use-cases of the LoRA library.

How files come in is in ``intake``, what prompts mean by names in ``resolve``.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID

from ..accounts.people import People
from ..blobs import BlobStore
from ..clock import Clock
from ..comfyui import ComfyUI
from ..database import Database, Transaction
from ..database.pages import Page
from ..errors import (
    AtelierError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    TimedOutError,
    UnavailableError,
    UpstreamError,
)
from ..principal import SYSTEM, Principal
from .disk import LoraSync
from .models import Access, Lora, LoraDetail, LoraFile, LoraVersion, VersionUses
from .names import SUFFIX, lora_name, owned_name
from .references import shared_files
from .removal import UnneededFiles
from .sharing import seen
from .store import LoraStore
from .store.held import HeldStore
from .store.shares import SharedLoras, ShareStore
from .store.uses import UseStore
from .views import LoraChange, LoraQuery

LINK_SECONDS = 600

log = logging.getLogger(__name__)


class LoraService:
    """One person's LoRAs, and what others share with that person.

    Someone else's are NotFoundError, as if they did not exist; what is shared can be looked at, and
    not changed.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        sync: LoraSync,
        comfyui: ComfyUI,
        files: UnneededFiles,
        people: People,
        clock: Clock,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._sync = sync
        self._comfyui = comfyui
        self._files = files
        self._people = people
        self._clock = clock

    async def page(self, principal: Principal, asked: LoraQuery) -> Page[Lora]:
        """The caller's LoRAs, those that are shared with the caller, or both; newest first."""
        async with self._database.transaction(principal, read_only=True) as tx:
            if asked.scope == "mine":
                return await LoraStore(tx).page(asked)
            page = await SharedLoras(tx).page(asked, with_own=asked.scope == "all")
        return Page(await self._labelled(page.items), page.next_cursor)

    async def names(self, principal: Principal) -> Sequence[str]:
        """What a prompt may name: the caller's LoRAs, newest first, ComfyUI's shared files, then
        what others share with the caller, with its owners.

        Without ComfyUI's files while ComfyUI is away.
        """
        async with self._database.transaction(principal, read_only=True) as tx:
            own = [f"{name}{SUFFIX}" for name in await LoraStore(tx).names()]
            others = await SharedLoras(tx).names()
        labels = await self._people.labels({owner for owner, _ in others}) if others else {}
        given = [owned_name(labels[owner], f"{name}{SUFFIX}") for owner, name in others]
        try:
            listed = await self._comfyui.lora_files()
        except (UnavailableError, TimedOutError, UpstreamError):
            listed = ()
        return list(dict.fromkeys([*own, *shared_files(listed).values(), *given]))

    async def get(self, principal: Principal, lora_id: UUID) -> LoraDetail:
        """A LoRA with its versions, the caller's own or one that is shared. NotFoundError."""
        async with self._database.transaction(principal, read_only=True) as tx:
            lora = await seen(tx, lora_id)
            versions = await _versions_for(tx, lora).versions(lora_id)
        (lora,) = await self._labelled([lora])
        pin = lora.pin(principal.folder)
        try:
            synced = await self._sync.is_present(pin)
        except UnavailableError:
            synced = False
        return LoraDetail(lora, versions, pin.path, synced)

    async def uses(self, principal: Principal, lora_id: UUID, version: int) -> VersionUses:
        """What a version is used by. NotFoundError."""
        async with self._database.transaction(principal, read_only=True) as tx:
            _found(await LoraStore(tx).get(lora_id))
            _found_version(await LoraStore(tx).version(lora_id, version))
            store = UseStore(tx)
            runs, unfinished, last = await store.runs(lora_id, version)
            workflows = await store.workflows(lora_id, version)
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            is_needed = await HeldStore(tx).holds(lora_id, version)
        return VersionUses(runs, unfinished, last, workflows, is_needed)

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
            grantees = await ShareStore(tx).of(lora_id)
            await store.delete(lora_id)
        named = {share.grantee_id for share in grantees if share.grantee_id is not None}
        await self._remove(lora, versions, {principal.id, *named})

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
            grantees = await ShareStore(tx).of(lora_id)
        named = {share.grantee_id for share in grantees if share.grantee_id is not None}
        await self._remove(lora, [old], {principal.id, *named})

    async def file(self, principal: Principal, lora_id: UUID, version: int | None) -> LoraFile:
        """The bytes of a version, by default the head.

        NotFoundError; ForbiddenError("download_not_allowed") for what is shared to be run alone.
        """
        async with self._database.transaction(principal, read_only=True) as tx:
            lora = await seen(tx, lora_id)
            if lora.access is Access.RUN:
                raise ForbiddenError(
                    "download_not_allowed", f"You may run '{lora.name}', but not take its file."
                )
            held = lora.head
            if version is not None:
                held = _found_version(await _versions_for(tx, lora).version(lora_id, version))
        filename = f"{lora.name}{SUFFIX}"
        opener = partial(self._blobs.open, held.object_key)
        link = await self._blobs.link(held.object_key, filename, LINK_SECONDS)
        return LoraFile(filename, held.bytes, held.sha256, opener, link)

    async def _labelled(self, loras: Sequence[Lora]) -> Sequence[Lora]:
        """Say of those that are somebody else's whose they are."""
        owners = {lora.owner_id for lora in loras if lora.access is not Access.OWNER}
        labels = await self._people.labels(owners) if owners else {}
        return [replace(lora, owner=labels.get(lora.owner_id)) for lora in loras]

    async def _refuse_in_use(self, lora: Lora, version: int | None) -> None:
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            in_use = await HeldStore(tx).holds(lora.id, version)
        if in_use:
            raise ConflictError(
                "lora_in_use", f"A run still needs '{lora.name}'.", {"name": lora.name}
            )

    async def _remove(
        self, lora: Lora, versions: Sequence[LoraVersion], accounts: Collection[UUID]
    ) -> None:
        """Remove bytes that no row names; what fails is a sweep's affair, not the caller's."""
        for version in versions:
            try:
                await self._blobs.delete(version.object_key)
            except AtelierError as error:
                extra = {"key": version.object_key, "code": error.code}
                log.warning("lora.not_removed", extra=extra)
        await self._files.remove(lora, versions, accounts)


def _versions_for(tx: Transaction, lora: Lora) -> LoraStore | SharedLoras:
    return LoraStore(tx) if lora.access is Access.OWNER else SharedLoras(tx)


def _found(lora: Lora | None) -> Lora:
    if lora is None:
        raise NotFoundError("lora")
    return lora


def _found_version(version: LoraVersion | None) -> LoraVersion:
    if version is None:
        raise NotFoundError("lora_version")
    return version

"""The use-cases of the LoRA library.

An upload is checked in a spool before anything else; then a transaction says ``pending``, the blob
store takes the file, and a second transaction says ``stored``. A crash in between leaves a pending
row that nobody is shown, which a later upload of the same bytes takes up, and the owner's next
change after a day removes.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

from ..accounts.models import Quotas
from ..blobs import BlobStore
from ..clock import Clock, NewId
from ..comfyui import ComfyUI
from ..database import Database
from ..database.pages import Page
from ..errors import (
    AtelierError,
    ConflictError,
    InvalidError,
    NotFoundError,
    TimedOutError,
    UnauthenticatedError,
    UnavailableError,
    UpstreamError,
)
from ..principal import Principal
from .models import Lora, LoraChange, LoraDetail, LoraFile, LoraPin, LoraQuery, LoraVersion
from .names import SUFFIX, LoraName, lora_name, object_key, pinned_path
from .references import References, read_references, shared_files
from .store import LoraStore
from .sync import LoraSync
from .uploads import Upload, UploadParts, any_field, no_field, receive, refuse_too_much

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
        new_id: NewId,
        *,
        max_bytes: int,
        quotas: Callable[[Principal], Awaitable[Quotas]],
        is_welcome: Callable[[Principal], Awaitable[bool]],
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._sync = sync
        self._comfyui = comfyui
        self._clock = clock
        self._new_id = new_id
        self.max_bytes = max_bytes
        self._quotas = quotas
        self._is_welcome = is_welcome

    async def add(self, principal: Principal, parts: UploadParts) -> tuple[LoraDetail, bool]:
        """Store an upload, and whether that made anything.

        Under a name that the library has, in whatever case, it becomes the next version and the
        head; bytes that one of the name's versions has make that version the head instead.
        Raises what ``receive`` raises, InvalidError("invalid_lora_name"),
        StorageFullError("quota_exceeded"), and UnauthenticatedError("session_ended").
        """
        async with self._blobs.spool() as spool:
            upload = await receive(parts, spool, self.max_bytes, any_field)
            return await self._keep(principal, upload.name(), upload, spool)

    async def add_version(
        self, principal: Principal, lora_id: UUID, parts: UploadParts
    ) -> tuple[LoraDetail, bool]:
        """The same for a LoRA that is there. NotFoundError before the file is read."""
        await self.get(principal, lora_id)
        async with self._blobs.spool() as spool:
            upload = await receive(parts, spool, self.max_bytes, no_field)
            return await self._keep(principal, lora_id, upload, spool)

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
        try:
            synced = await self._sync.is_present(lora.pin())
        except UnavailableError:
            synced = False
        return LoraDetail(lora, versions, synced)

    async def edit(self, principal: Principal, lora_id: UUID, change: LoraChange) -> LoraDetail:
        """Change name, description or tags. Files and pinned paths keep the name they have.

        NotFoundError, InvalidError("invalid_lora_name"), ConflictError("lora_name_taken").
        """
        name = None if change.name is None else lora_name(change.name)
        now = self._clock.now()
        async with self._database.transaction(principal) as tx:
            store = LoraStore(tx)
            _found(await store.get(lora_id))
            await store.forget_abandoned(now - ABANDONED)
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

        NotFoundError; ConflictError("lora_in_use") while an unfinished run pins a version.
        """
        async with self._alone(principal):
            async with self._database.transaction(principal) as tx:
                store = LoraStore(tx)
                lora = _found(await store.get(lora_id))
                if await store.is_pinned(lora_id):
                    raise ConflictError(
                        "lora_in_use", f"A run still needs '{lora.name}'.", {"name": lora.name}
                    )
                keys = await store.delete(lora_id)
            for key in sorted(keys):
                await self._remove(lora, key)

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
            found = await _own(LoraStore(tx), wanted)
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

    async def _keep(
        self, principal: Principal, target: LoraName | UUID, upload: Upload, spool: Path
    ) -> tuple[LoraDetail, bool]:
        """Make what is in the spool the head of a name, or of the LoRA with an id."""
        async with self._alone(principal):
            if not await self._is_welcome(principal):  # as it was when the file began to come
                raise UnauthenticatedError("session_ended", "You are signed in no more.")
            quota = (await self._quotas(principal)).max_bytes
            async with self._database.transaction(principal) as tx:
                store = LoraStore(tx)
                version, known = await self._reserve(store, principal, target, upload)
                if not known:
                    refuse_too_much(await store.bytes_kept(), quota)
            if not known or await self._blobs.size(version.object_key) != version.bytes:
                await self._blobs.adopt(version.object_key, spool)
            created = await self._finish(principal, version, upload)
        return await self.get(principal, version.lora_id), created

    async def _reserve(
        self, store: LoraStore, principal: Principal, target: LoraName | UUID, upload: Upload
    ) -> tuple[LoraVersion, bool]:
        """The version that has these bytes, made ``pending`` where there is none, and whether the
        blob store has its bytes already."""
        now, file = self._clock.now(), upload.file
        await store.forget_abandoned(now - ABANDONED)
        if isinstance(target, LoraName):
            lora_id, stem = await store.claim(target, self._new_id(), now), target.stem
        else:
            lora_id, stem = target, _found(await store.get(target)).stem
        existing = await store.with_sha256(lora_id, file.sha256)
        if existing is not None:
            return existing
        key = object_key(principal.id, stem, file.sha256)
        if await store.sha256s_under(key) - {file.sha256}:
            raise ConflictError(
                "lora_hash_taken",
                "Another file of this name has a SHA-256 that begins alike; use another name.",
                {"sha256": file.sha256},
            )
        version = LoraVersion(
            lora_id, 0, file.sha256, file.autov3, file.size, key, upload.metadata, now
        )
        return await store.add_pending(version, "upload"), False

    async def _finish(self, principal: Principal, version: LoraVersion, upload: Upload) -> bool:
        """Show the version as the head; whether that is new."""
        now = self._clock.now()
        async with self._database.transaction(principal) as tx:
            store = LoraStore(tx)
            created = await store.mark_stored(version)
            if await store.version(version.lora_id, version.version) is None:
                raise ConflictError("lora_deleted", "The LoRA was deleted meanwhile.")
            await store.make_head(version, now)
            fields = upload.fields
            await store.edit(version.lora_id, now, None, fields.description, fields.tags)
        return created

    async def _remove(self, lora: Lora, key: str) -> None:
        """Remove bytes that no row names; what fails is a sweep's affair, not the caller's."""
        pin = replace(lora.pin(), object_key=key, path=pinned_path(key))
        for remove in (partial(self._blobs.delete, key), partial(self._sync.remove, pin)):
            try:
                await remove()
            except AtelierError as error:
                log.warning("lora.not_removed", extra={"key": key, "code": error.code})

    def _alone(self, principal: Principal) -> AbstractAsyncContextManager[None]:
        """One at a time per library: a delete must not take the bytes of an upload that has just
        found them."""
        return self._database.alone(principal, "loras")


async def _own(store: LoraStore, wanted: References) -> dict[str, LoraPin | str]:
    heads = await store.by_stem(
        {reference.stem for reference in wanted.files.values() if reference.stem is not None}
    )
    versions = await store.by_object_key({each.object_key for each in wanted.pinned.values()})
    found: dict[str, LoraPin | str] = {}
    for name, reference in wanted.files.items():
        if (head := heads.get(reference.stem or "")) is not None:
            found[name] = head.pin()
    for name, pinned in wanted.pinned.items():
        if pinned.object_key in versions:
            lora, version = versions[pinned.object_key]
            found[name] = lora.pin(version)
    return found


def _found(lora: Lora | None) -> Lora:
    if lora is None:
        raise NotFoundError("lora")
    return lora


def _found_version(version: LoraVersion | None) -> LoraVersion:
    if version is None:
        raise NotFoundError("lora_version")
    return version

"""How files come into the library: whatever brings them, they are checked and end as a version.

The bytes go to the blob store under a key of their own first; then one transaction writes the row.
A crash in between leaves an object that no row names, which a sweep removes after a day.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias
from uuid import UUID

from ..accounts.models import Quotas
from ..blobs import BlobStore
from ..clock import Clock, NewId
from ..database import Database
from ..durable import opened, read_file
from ..errors import (
    AtelierError,
    ConflictError,
    NotFoundError,
    UnauthenticatedError,
)
from ..principal import Principal
from .models import LoraVersion, VersionState
from .names import LoraName, filename, object_key
from .quotas import refuse_larger, refuse_too_many, refuse_too_much
from .safetensors import CheckedFile, SafetensorsStream, check
from .store import LoraStore
from .trainer_metadata import read_metadata
from .uploads import LoraFields, Upload, UploadParts, any_field, no_field, receive

Source: TypeAlias = Literal["upload", "folder", "google_drive"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Taken:
    """What became of a file: a version of a LoRA, and whether that made anything."""

    lora_id: UUID
    version: int
    created: bool


class LoraIntake:
    """Takes files for people."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        clock: Clock,
        new_id: NewId,
        *,
        max_bytes: int,
        quotas: Callable[[Principal], Awaitable[Quotas]],
        is_welcome: Callable[[Principal], Awaitable[bool]],
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock
        self._new_id = new_id
        self._max_bytes = max_bytes
        self._quotas = quotas
        self._is_welcome = is_welcome

    async def largest(self, principal: Principal) -> int:
        """The most bytes that a file of theirs may have."""
        own = (await self._quotas(principal)).max_lora_bytes
        return self._max_bytes if own is None else own

    async def refuse_unaffordable(self, principal: Principal, size: int) -> None:
        """Refuse a file of so many bytes before it is sent.

        TooLargeError("lora_too_large"), StorageFullError("quota_exceeded").
        """
        refuse_larger(size, await self.largest(principal))
        quotas = await self._quotas(principal)
        async with self._database.transaction(principal, read_only=True) as tx:
            _, kept = await LoraStore(tx).kept()
        refuse_too_much(kept + size, quotas.max_bytes)

    async def add(self, principal: Principal, parts: UploadParts) -> Taken:
        """Store an upload.

        Under a name that the library has, in whatever case, it becomes the next version and the
        head; bytes that one of the name's versions has make that version the head instead.
        Raises what ``receive`` raises, InvalidError("invalid_lora_name"),
        StorageFullError("quota_exceeded"), and UnauthenticatedError("session_ended").
        """
        return await self._receive(principal, parts, any_field, None)

    async def add_version(self, principal: Principal, lora_id: UUID, parts: UploadParts) -> Taken:
        """The same for a LoRA that is there. NotFoundError before the file is read."""
        await self.require(principal, lora_id)
        return await self._receive(principal, parts, no_field, lora_id)

    async def require(self, principal: Principal, lora_id: UUID) -> None:
        """NotFoundError for a LoRA that is not the caller's own."""
        async with self._database.transaction(principal, read_only=True) as tx:
            if await LoraStore(tx).get(lora_id) is None:
                raise NotFoundError("lora")

    async def adopt(
        self,
        principal: Principal,
        file: Path,
        fields: LoraFields,
        *,
        called: str | None = None,
        lora_id: UUID | None = None,
        source: Source = "upload",
        source_ref: str | None = None,
        upload_id: UUID | None = None,
    ) -> Taken:
        """Take a whole local file. It stays where it is: whoever brought it removes it, when what
        became of it is written down.

        ``called`` is its own name, used where the fields give none; with ``lora_id`` it is the next
        version of that LoRA. ``upload_id`` is the resumable upload that it came by, which holds its
        bytes' place in the quota. Raises what ``add`` raises, UnavailableError("blobs") or
        StorageFullError when it cannot be stored now, and OSError when the file cannot be read.
        """
        largest = await self.largest(principal)
        async with opened(file) as bytes_of:
            checked = await check(read_file(bytes_of), largest)
        upload = Upload(fields, called, checked, read_metadata(checked.header), upload_id)
        target = upload.name() if lora_id is None else lora_id
        await self._refuse_spent(principal, target, upload)
        async with self._stored(principal) as key:
            await self._blobs.adopt(key, file)
            return await self._record(principal, target, upload, key, source, source_ref)

    async def _receive(
        self,
        principal: Principal,
        parts: UploadParts,
        read_fields: Callable[[dict[str, str]], LoraFields],
        lora_id: UUID | None,
    ) -> Taken:
        largest = await self.largest(principal)
        async with self._stored(principal) as key:
            upload = await receive(parts, partial(self._put, key, largest), read_fields)
            target = upload.name() if lora_id is None else lora_id
            return await self._record(principal, target, upload, key, "upload", None)

    async def _put(self, key: str, largest: int, chunks: AsyncIterator[bytes]) -> CheckedFile:
        stream = SafetensorsStream(chunks, largest)
        await self._blobs.put(key, stream)
        return stream.file

    @asynccontextmanager
    async def _stored(self, principal: Principal) -> AsyncIterator[str]:
        """A new key; what is under it when the block fails is removed."""
        key = object_key(principal.id, self._new_id())
        try:
            yield key
        except BaseException:
            await asyncio.shield(self._discard(key))
            raise

    async def _refuse_spent(
        self, principal: Principal, target: LoraName | UUID, upload: Upload
    ) -> None:
        """Refuse what the quotas have no room for, before the bytes are stored."""
        async with self._database.transaction(principal, read_only=True) as tx:
            store = LoraStore(tx)
            lora_id = await store.with_stem(target.stem) if isinstance(target, LoraName) else target
            if lora_id is None or await store.with_sha256(lora_id, upload.file.sha256) is None:
                await self._refuse_over_quota(store, principal, lora_id, upload)

    async def _record(
        self,
        principal: Principal,
        target: LoraName | UUID,
        upload: Upload,
        key: str,
        source: Source,
        source_ref: str | None,
    ) -> Taken:
        """Make the bytes under ``key`` the head of a name, or of the LoRA with an id."""
        if not await self._is_welcome(principal):  # as it was when the file began to come
            raise UnauthenticatedError("session_ended", "You are signed in no more.")
        now = self._clock.now()
        async with self._database.transaction(principal) as tx:
            await tx.alone("loras")
            store = LoraStore(tx)
            lora_id = await self._claim(store, principal, target, upload)
            version = await store.with_sha256(lora_id, upload.file.sha256)
            created = version is None
            if version is None:
                version = await self._add(store, lora_id, target, upload, key, source, source_ref)
            await store.make_head(version, now)
            fields = upload.fields
            await store.edit(lora_id, now, None, fields.description, fields.tags)
        if not created:
            await self._mend(principal, version, key)
        return Taken(lora_id, version.version, created)

    async def _claim(
        self, store: LoraStore, principal: Principal, target: LoraName | UUID, upload: Upload
    ) -> UUID:
        """The id of the LoRA that the file is for, made where a name has none yet."""
        if isinstance(target, UUID):
            lora_id: UUID | None = target
            if await store.get(target) is None:
                raise ConflictError("lora_deleted", "The LoRA was deleted meanwhile.")
        else:
            lora_id = await store.with_stem(target.stem)
        known = lora_id is not None and await store.with_sha256(lora_id, upload.file.sha256)
        if not known:
            await self._refuse_over_quota(store, principal, lora_id, upload)
        if lora_id is None and isinstance(target, LoraName):
            lora_id = self._new_id()
            await store.add(target, lora_id, self._clock.now())
        assert lora_id is not None  # noqa: S101 - one of the two it is
        return lora_id

    async def _refuse_over_quota(
        self, store: LoraStore, principal: Principal, lora_id: UUID | None, upload: Upload
    ) -> None:
        quotas = await self._quotas(principal)
        count, kept = await store.kept(but=upload.id)
        refuse_too_much(kept + upload.file.size, quotas.max_bytes)
        if lora_id is None:
            refuse_too_many(count + 1, quotas.max_loras)

    async def _add(
        self,
        store: LoraStore,
        lora_id: UUID,
        target: LoraName | UUID,
        upload: Upload,
        key: str,
        source: Source,
        source_ref: str | None,
    ) -> LoraVersion:
        file = upload.file
        stem = target.stem if isinstance(target, LoraName) else (await store.stem_of(target))
        called = filename(stem, file.sha256)
        if await store.sha256s_called(called) - {file.sha256}:
            raise ConflictError(
                "lora_hash_taken",
                "Another file of this name has a SHA-256 that begins alike; use another name.",
                {"sha256": file.sha256},
            )
        version = LoraVersion(
            lora_id,
            0,
            file.sha256,
            file.autov3,
            file.size,
            key,
            called,
            VersionState.STORED,
            upload.metadata,
            self._clock.now(),
        )
        return await store.add_version(version, source, source_ref)

    async def _mend(self, principal: Principal, version: LoraVersion, key: str) -> None:
        """Bytes that are there already came again: they take the place of damaged or lost ones."""
        is_there = await self._blobs.size(version.object_key) == version.bytes
        unneeded = key
        if version.state is VersionState.DAMAGED or not is_there:
            async with self._database.transaction(principal) as tx:
                await LoraStore(tx).set_bytes(version, key, VersionState.STORED)
            unneeded = version.object_key
        await self._discard(unneeded)

    async def _discard(self, key: str) -> None:
        """Remove bytes that no row names; what fails is a sweep's affair, not the caller's."""
        try:
            await self._blobs.delete(key)
        except AtelierError as error:
            log.warning("lora.not_removed", extra={"key": key, "code": error.code})

"""Blobs in any S3: one object each, named like its key.

minio-py blocks, so it runs in threads of its own; and nothing is asked of a store but PUT, GET with
ranges, HEAD, DELETE, listing, multipart uploads and presigned URLs, which all of them have.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from minio.datatypes import Part
from minio.error import S3Error
from urllib3.response import BaseHTTPResponse

from ..durable import in_thread, opened, read_file
from ..errors import AtelierError, NotFoundError
from . import BlobEntry, checked_key
from .s3_client import S3Address, made_client
from .s3_errors import translated
from .s3_parts import Sending, cut

T = TypeVar("T")

PART_BYTES = 8 << 20
"""Of a multipart upload: all of one size, as R2 demands."""
MOST_PARTS = 10_000
READ_BYTES = 1 << 20
THREADS = 24
CHECK_SECONDS = 5.0
_PAGE = 1000
_GOOD_ENOUGH = {"AccessDenied", "BucketAlreadyExists", "BucketAlreadyOwnedByYou"}
_PROBE = ".atelier/probe"


class S3Blobs:
    """The BlobStore port on one bucket.

    Peak memory of a put is the parts that are sent at once, and the next one.
    """

    def __init__(self, address: S3Address, *, max_bytes: int) -> None:
        self.address = address
        self._bucket = address.bucket
        self._part_bytes = max(PART_BYTES, -(-max_bytes // MOST_PARTS))
        self.client = made_client(address, address.endpoint, connections=THREADS)
        public = address.public_endpoint
        self._public = None if public is None else made_client(address, public, connections=1)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="s3")
        self._has_bucket = False
        self._checked_at = float("-inf")

    async def close(self) -> None:
        """Let go of threads and connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def clean(self) -> None:
        """See BlobStore: nothing of an earlier process is on this machine."""

    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> int:
        """See BlobStore."""
        checked_key(key)
        async with aclosing(cut(chunks, self._part_bytes)) as parts:
            first = await anext(parts, b"")
            second = await anext(parts, None) if len(first) == self._part_bytes else None
            if second is None:
                await self._put_whole(key, first)
                return len(first)
            return await self._put_parts(key, first, second, parts)

    async def adopt(self, key: str, file: Path) -> None:
        """See BlobStore."""
        async with opened(file) as data:
            await self.put(key, read_file(data))

    @asynccontextmanager
    async def open(
        self, key: str, start: int = 0, length: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """See BlobStore."""
        checked_key(key)
        if length == 0 and await self.size(key) is not None:
            yield _nothing()
            return
        try:
            # minio-py asks for all of it where offset and length are both 0 or None
            response = await self._call(
                self.client.get_object, self._bucket, key, start, length or 0
            )
        except _MissingError:
            raise NotFoundError("blob") from None
        except _PastEndError:
            yield _nothing()
            return
        try:
            yield self._read(response)
        finally:
            await in_thread(_let_go, response, pool=self._threads)

    async def size(self, key: str) -> int | None:
        """See BlobStore."""
        checked_key(key)
        try:
            found = await self._call(self.client.stat_object, self._bucket, key)
        except _MissingError:
            return None
        return found.size

    async def delete(self, key: str) -> None:
        """See BlobStore."""
        checked_key(key)
        with suppress(_MissingError):
            await self._call(self.client.remove_object, self._bucket, key)

    async def entries(self, prefix: str) -> AsyncIterator[BlobEntry]:
        """See BlobStore."""
        listed = await self._call(
            self.client.list_objects, self._bucket, prefix=prefix, recursive=True
        )
        while page := await self._call(lambda: list(islice(listed, _PAGE))):
            for found in page:
                if not found.object_name.startswith("."):
                    yield BlobEntry(found.object_name, found.size, found.last_modified)

    async def link(self, key: str, filename: str, seconds: int) -> str | None:
        """See BlobStore: where browsers reach the store."""
        checked_key(key)
        if self._public is None:
            return None
        disposition = f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
        return self._public.presigned_get_object(
            self._bucket,
            key,
            expires=timedelta(seconds=seconds),
            response_headers={
                "response-content-disposition": disposition,
                "response-content-type": "application/octet-stream",
            },
        )

    async def sweep_parts(self, before: datetime, *, dry_run: bool) -> Sequence[str]:
        """See BlobStore: multipart uploads that nobody completed."""
        stale = await self._call(self._stale_uploads, before)
        if not dry_run:
            for key, upload_id in stale:
                with suppress(_MissingError):
                    await self._call(
                        self.client._abort_multipart_upload, self._bucket, key, upload_id
                    )
        return [f"{key} ({upload_id})" for key, upload_id in stale]

    async def check(self) -> None:
        """See BlobStore. Asks the store at most every few seconds."""
        now = asyncio.get_running_loop().time()
        if now - self._checked_at < CHECK_SECONDS:
            return
        await self._call(self.client._put_object, self._bucket, _PROBE, b"")
        self._checked_at = now

    async def _put_whole(self, key: str, data: bytes) -> None:
        try:
            await self._call(self.client._put_object, self._bucket, key, data)
        except BaseException:
            await self._forget(key, None)
            raise

    async def _put_parts(
        self, key: str, first: bytes, second: bytes, rest: AsyncIterator[bytes]
    ) -> int:
        # minio-py's put_object wants a file to read from, in a thread that nobody can cancel; the
        # calls that it makes itself have been what they are since its version 7.0
        upload_id = await self._call(self.client._create_multipart_upload, self._bucket, key, {})
        sending = Sending(partial(self._send, key, upload_id))
        try:
            for data in (first, second):
                await sending.send(data)
            async for data in rest:
                await sending.send(data)
            parts = await sending.ended()
            await self._call(
                self.client._complete_multipart_upload, self._bucket, key, upload_id, parts
            )
        except BaseException:
            await sending.cancelled()
            await self._forget(key, upload_id)
            raise
        return sending.size

    async def _send(self, key: str, upload_id: str, number: int, data: bytes) -> Part:
        etag = await self._call(
            self.client._upload_part, self._bucket, key, data, None, upload_id, number
        )
        return Part(number, etag)

    async def _forget(self, key: str, upload_id: str | None) -> None:
        """Leave nothing of a put that failed, also where only its answer was lost."""
        calls: list[Callable[[], Any]] = [partial(self.client.remove_object, self._bucket, key)]
        if upload_id is not None:
            abort = self.client._abort_multipart_upload
            calls.insert(0, partial(abort, self._bucket, key, upload_id))
        for call in calls:
            with suppress(AtelierError, _MissingError):  # away: a sweep finds it
                await asyncio.shield(self._call(call))

    async def _read(self, response: BaseHTTPResponse) -> AsyncIterator[bytes]:
        with translated():
            while chunk := await in_thread(response.read, READ_BYTES, pool=self._threads):
                yield chunk

    async def _call(self, function: Callable[..., T], *args: Any, **named: Any) -> T:
        """Call the store, in the bucket that it has or is given."""
        if not self._has_bucket:
            await in_thread(self._make_bucket, pool=self._threads)
        return await in_thread(self._asked, partial(function, *args, **named), pool=self._threads)

    def _asked(self, function: Callable[[], T]) -> T:
        with translated():
            try:
                return function()
            except S3Error as error:
                if error.code in ("NoSuchKey", "NoSuchUpload"):
                    raise _MissingError from error
                if error.code == "InvalidRange":
                    raise _PastEndError from error
                if error.code == "NoSuchBucket":
                    self._has_bucket = False
                raise

    def _make_bucket(self) -> None:
        with translated():
            try:
                if not self.client.bucket_exists(self._bucket):
                    self.client.make_bucket(self._bucket)
            except S3Error as error:
                # some keys may use a bucket and not ask for it; of two who make it one is late
                if error.code not in _GOOD_ENOUGH:
                    raise
        self._has_bucket = True

    def _stale_uploads(self, before: datetime) -> list[tuple[str, str]]:
        stale: list[tuple[str, str]] = []
        key_marker = upload_marker = None
        while True:
            page = self.client._list_multipart_uploads(
                self._bucket, key_marker=key_marker, upload_id_marker=upload_marker
            )
            for upload in page.uploads:
                begun = upload.initiated_time
                if begun is not None and begun < before and upload.upload_id is not None:
                    stale.append((upload.object_name, upload.upload_id))
            if not page.is_truncated:
                return stale
            key_marker, upload_marker = page.next_key_marker, page.next_upload_id_marker


class _MissingError(Exception):
    """The store has no such object or upload."""


class _PastEndError(Exception):
    """The range begins where the object ends."""


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def _let_go(response: BaseHTTPResponse) -> None:
    response.close()
    response.release_conn()

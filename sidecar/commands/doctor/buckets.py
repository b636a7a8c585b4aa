"""The S3 store: does it answer, and may its keys write, read, list and delete?"""

from collections.abc import AsyncIterator

from ...blobs import BlobStore
from ...errors import AtelierError, UpstreamError
from ...outside import opened_blobs, s3_address
from ...settings import Settings
from .findings import Finding, fail, ok

_SUBJECT = "S3"
_PROBE = "doctor/probe"


async def check_bucket(settings: Settings) -> list[Finding]:
    """What happens to a small object; none is left behind. Nothing where files are in a folder."""
    address = s3_address(settings)
    if address is None:
        return []
    where = f"{address.endpoint}, bucket {address.bucket}"
    async with opened_blobs(settings) as blobs:
        try:
            await _tried(blobs)
        except AtelierError as error:
            return [fail(_SUBJECT, f"{where}: {error.message} ({error.details.get('reason')})")]
    found = [ok(_SUBJECT, f"{where} can be written, read and listed.")]
    if address.public_endpoint is not None:
        found.append(ok(_SUBJECT, f"downloads of LoRAs are sent to {address.public_endpoint}."))
    return found


async def _tried(blobs: BlobStore) -> None:
    await blobs.check()
    await blobs.put(_PROBE, _once(b"probe"))
    async with blobs.open(_PROBE, 1, 2) as chunks:
        read = b"".join([chunk async for chunk in chunks])
    listed = [entry.key async for entry in blobs.entries(_PROBE)]
    await blobs.delete(_PROBE)
    if (read, listed) != (b"ro", [_PROBE]):
        raise UpstreamError(
            "blobs", "It does not give back what was stored.", {"reason": "differs"}
        )


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data

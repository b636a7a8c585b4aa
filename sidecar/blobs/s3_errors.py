"""What an S3 server says, in our own words."""

from collections.abc import Iterator
from contextlib import contextmanager

import urllib3
from minio.error import InvalidResponseError, S3Error, ServerError

from ..errors import AtelierError, StorageFullError, UnavailableError, UpstreamError

_NO_ROOM = {
    "InsufficientStorage",
    "QuotaExceeded",
    "StorageFull",
    "XMinioAdminBucketQuotaExceeded",
    "XMinioStorageFull",
}
_WHY_NOT = {
    "AccessDenied": "its keys may not do this; MINIO_ACCESS_KEY needs to read, write, list and "
    "delete in the bucket",
    "InvalidAccessKeyId": "it does not know MINIO_ACCESS_KEY",
    "NoSuchBucket": "the bucket MINIO_BUCKET does not exist and could not be made",
    "RequestTimeTooSkewed": "its clock and this machine's differ by more than 15 minutes",
    "SignatureDoesNotMatch": "MINIO_SECRET_KEY is wrong, or something in between changes requests",
}
_BUSY = {"InternalError", "ServiceUnavailable", "SlowDown", "SlowDownRead", "SlowDownWrite"}
_PASSING = {500, 502, 503, 504}


@contextmanager
def translated() -> Iterator[None]:
    """UnavailableError("blobs") for what may pass or an operator can mend, with S3's code in
    ``details.reason``; StorageFullError("disk_full"); UpstreamError("blobs") for the rest."""
    try:
        yield
    except S3Error as error:
        raise _said(error) from error
    except InvalidResponseError as error:
        raise _odd(error) from error
    except (ServerError, urllib3.exceptions.HTTPError) as error:
        raise UnavailableError(
            "blobs", "The S3 store does not answer.", {"reason": type(error).__name__}
        ) from error


def _said(error: S3Error) -> AtelierError:
    code = error.code or "unknown"
    if code in _NO_ROOM or error.response.status == 507:
        return StorageFullError(
            "disk_full", "There is no room left in the S3 store.", {"system": "blobs"}
        )
    if (why := _WHY_NOT.get(code)) is not None:
        return UnavailableError("blobs", f"The S3 store cannot be used: {why}.", {"reason": code})
    if code in _BUSY or error.response.status in _PASSING:
        return UnavailableError("blobs", "The S3 store has no time.", {"reason": code})
    return UpstreamError("blobs", f"The S3 store refused: {code}.", {"reason": code})


def _odd(error: InvalidResponseError) -> AtelierError:
    status: int = error._code
    if status == 507:
        return StorageFullError(
            "disk_full", "There is no room left in the S3 store.", {"system": "blobs"}
        )
    if status in _PASSING:
        return UnavailableError("blobs", "The S3 store does not answer.", {"reason": str(status)})
    return UpstreamError(
        "blobs", "What answers at MINIO_ENDPOINT is no S3 store.", {"reason": str(status)}
    )

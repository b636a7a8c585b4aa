"""Where an S3 store is, and a client for it."""

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import certifi
import urllib3
from minio import Minio

CONNECT_SECONDS = 5.0
READ_SECONDS = 60.0
RETRIES = 2


@dataclass(frozen=True)
class S3Address:
    """A bucket and how to reach it. Endpoints are ``host:port`` or URLs, whose scheme counts more
    than ``secure``; ``path_style`` None leaves it to minio-py: host names for AWS alone."""

    endpoint: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    bucket: str
    region: str = "us-east-1"
    secure: bool = True
    path_style: bool | None = None
    public_endpoint: str | None = None


def made_client(address: S3Address, endpoint: str, *, connections: int) -> Minio:
    """A client for one endpoint of the store. Keep it: one that is collected ends its connections.

    With the region given it never asks for one, and signs links without asking anybody.
    """
    parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
    secure = address.secure if not parts.scheme else parts.scheme == "https"
    client = Minio(
        parts.netloc,
        address.access_key,
        address.secret_key,
        secure=secure,
        region=address.region,
        http_client=_connections(connections),
    )
    if address.path_style is not None:
        client._base_url.virtual_style_flag = not address.path_style  # its switch has no types
    return client


def _connections(most: int) -> urllib3.PoolManager:
    """minio-py's own waits five minutes, five times."""
    return urllib3.PoolManager(
        maxsize=most,
        timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
        retries=urllib3.Retry(
            total=RETRIES, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]
        ),
        cert_reqs="CERT_REQUIRED",
        ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
    )

"""What an address must look like."""

from urllib.parse import urlsplit


def http_url(value: str) -> str:
    """The URL without a slash at its end. ValueError when it is none of HTTP."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError("expected http://host:port or https://host:port")
    return value.rstrip("/")

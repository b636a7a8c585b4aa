"""One shared HTTP session to ComfyUI, and the one door at which aiohttp's errors become ours."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from ..errors import TimedOutError, UnavailableError, UpstreamError

SYSTEM = "comfyui"
MAX_ANSWER_BYTES = 256 << 20
"""A queue of a thousand big graphs fits; an endless answer does not."""


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer."""

    request: str
    status: int
    body: bytes

    def json(self) -> Any:
        """The body as JSON; UpstreamError when it is something else."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise self.unusable("with something that is not JSON") from None

    def unusable(self, how: str | None = None) -> UpstreamError:
        """The error that says ComfyUI answered so."""
        return unusable(self.request, self.status, how)


class Transport:
    """Requests below one base URL. Redirects are never followed: ComfyUI sends none."""

    def __init__(self, session: aiohttp.ClientSession, base: URL) -> None:
        self.session = session
        self._base = base

    def url(self, path: str) -> URL:
        """The address of ``path``, below the prefix that a proxy may have given ComfyUI."""
        return self._base.joinpath(*path.split("/"))

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        accept: tuple[int, ...] = (200,),
    ) -> Answer:
        """Send a request and read the whole answer; UpstreamError unless its status is accepted."""
        async with self.open(method, path, body=body, headers=headers) as response:
            request = f"{method} /{path}"
            if response.status not in accept:
                raise unusable(request, response.status)
            received = bytearray()
            with translated(request):
                async for chunk in response.content.iter_chunked(1 << 16):
                    received += chunk
                    if len(received) > MAX_ANSWER_BYTES:
                        raise unusable(request, response.status, "without an end")
            return Answer(request, response.status, bytes(received))

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; the answer's body is yet to be read. The block's own errors pass."""
        sent = dict(headers or {})
        if body is not None:
            sent["Content-Type"] = "application/json"
        with translated(f"{method} /{path}"):
            response = await self.session.request(
                method,
                self.url(path),
                params=query,
                data=body,
                headers=sent,
                allow_redirects=False,
            )
        try:
            yield response
        finally:
            response.release()


@contextmanager
def translated(request: str) -> Iterator[None]:
    """Turn what aiohttp raises inside the block into our errors."""
    details = {"request": request}
    try:
        yield
    except asyncio.TimeoutError as error:
        raise TimedOutError(SYSTEM, "ComfyUI does not answer in time.", details) from error
    except (aiohttp.ClientSSLError, ssl.SSLError) as error:
        raise UnavailableError(
            SYSTEM,
            "ComfyUI's certificate is not accepted; for a self-signed one on this machine set "
            "COMFYUI_VERIFY_TLS=false.",
            details,
        ) from error
    except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError) as error:
        raise UnavailableError(SYSTEM, "ComfyUI cannot be reached.", details) from error
    except aiohttp.WSServerHandshakeError as error:
        raise unusable(request, error.status) from error
    except aiohttp.ClientError as error:
        message = "ComfyUI's answer is not HTTP that can be read."
        raise UpstreamError(SYSTEM, message, details) from error


def unusable(request: str, status: int, how: str | None = None) -> UpstreamError:
    """ComfyUI answered with this status, or in this way."""
    if how is None and status == 401:
        how = "that user and password are wrong (COMFYUI_WEB_USER, COMFYUI_WEB_PASSWORD)"
    message = f"ComfyUI answered {request} {how or f'with status {status}'}."
    return UpstreamError(SYSTEM, message, {"request": request, "status": status})

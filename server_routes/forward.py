"""``/api/v1/comfyui/*`` on ComfyUI's port, streamed to the sidecar and back, never stored."""

import asyncio
import json
from collections.abc import AsyncIterator

from aiohttp import ClientConnectionError, ClientError, ClientResponse, ClientSession, hdrs, web
from aiohttp.typedefs import Handler
from multidict import CIMultiDict
from yarl import URL

from .address import SidecarAddress
from .headers import answer_headers, request_headers, upstream_path

PATHS = ("/v1/comfyui/{tail:.*}", "/api/v1/comfyui/{tail:.*}")
"""Both spellings, as ComfyUI has them for its own routes."""

WATCH_SECONDS = 0.5
"""How often a silent exchange looks whether its client is still there."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Forwarder:
    """One route for every method."""

    def __init__(self, address: SidecarAddress, session: ClientSession) -> None:
        self._address = address
        self._session = session

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes. Not to ComfyUI's table: its doubling raises on a route with options."""
        for path in PATHS:
            router.add_route("*", path, self.handle, expect_handler=_leave_expect_to_sidecar)

    @web.middleware
    async def options(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """ComfyUI answers OPTIONS on every path before a route is asked; ours go to the sidecar.

        Preflights stay ComfyUI's: whether other sites may ask is its ``--enable-cors-header``.
        """
        is_ours = request.method == "OPTIONS" and request.match_info.handler == self.handle
        if is_ours and hdrs.ACCESS_CONTROL_REQUEST_METHOD not in request.headers:
            return await self.handle(request)
        return await handler(request)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass one request on; 503 ``sidecar_unavailable`` when nobody is there to take it."""
        path = upstream_path(request.rel_url.raw_path)
        if path is None:
            return _refusal(404, "route_not_found", "There is no such route.", {})
        base = self._address.url
        if base is None:
            return _away()
        query = request.rel_url.raw_query_string
        url = URL(base + path + (f"?{query}" if query else ""), encoded=True)
        headers = request_headers(request, self._address.token)
        exchange = asyncio.ensure_future(_Exchange(request, headers, self._session, url).run())
        try:
            while not exchange.done() and not _client_left(request):
                await asyncio.wait({exchange}, timeout=WATCH_SECONDS)
        finally:
            if not exchange.done():
                exchange.cancel()
                await asyncio.wait({exchange})
        # nobody reads the answer to a client that left
        return web.Response(status=499) if exchange.cancelled() else exchange.result()


class _Exchange:
    """One request and its answer."""

    def __init__(
        self, request: web.Request, headers: CIMultiDict[str], session: ClientSession, url: URL
    ) -> None:
        self._request = request
        self._headers = headers
        self._session = session
        self._url = url
        self._upload = _Upload(request) if request.body_exists else None

    async def run(self) -> web.StreamResponse:
        upstream: ClientResponse | None = None
        try:
            upstream = await self._ask()
            return await self._relay(upstream)
        except (ClientError, OSError):
            return self._closing(_away())
        finally:
            if upstream is not None:
                # of an answer that was read whole the connection has gone back already
                upstream.close()
            if self._upload is not None:
                await self._upload.stop()

    async def _ask(self) -> ClientResponse:
        return await self._session.request(
            self._request.method,
            self._url,
            headers=self._headers,
            skip_auto_headers=(
                hdrs.USER_AGENT,
                hdrs.ACCEPT,
                hdrs.ACCEPT_ENCODING,
                hdrs.CONTENT_TYPE,
            ),
            data=self._upload,
            expect100=self._upload is not None and self._upload.waits_for_continue,
            allow_redirects=False,
        )

    async def _relay(self, upstream: ClientResponse) -> web.StreamResponse:
        response = self._closing(
            web.StreamResponse(
                status=upstream.status, reason=upstream.reason, headers=answer_headers(upstream)
            )
        )
        try:
            await response.prepare(self._request)
            async for chunk in upstream.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
        except (ClientError, OSError):
            # either side left: an answer that ended here could look whole, so cut it
            if self._request.transport is not None:
                self._request.transport.abort()
        return response

    def _closing(self, response: web.StreamResponse) -> web.StreamResponse:
        """An answer that comes before the body is through: the rest of that body has no reader."""
        if self._upload is not None and not self._upload.whole:
            response.force_close()
        return response


class _Upload:
    """The client's body, read as fast as the sidecar takes it."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._reader: asyncio.Task[object] | None = None
        self._begun = False
        self.waits_for_continue = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
        self.whole = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes, once: aiohttp would try a PUT again with what is left of them."""
        if self._begun:
            raise ClientConnectionError("the body has been sent already")
        self._begun = True
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        """An exception of a client that left ends the request to the sidecar too."""
        self._reader = asyncio.current_task()
        if self.waits_for_continue:
            await self._request.writer.write(CONTINUE)
            self._request.writer.output_size = 0  # the answer itself has not begun
        async for chunk in self._request.content.iter_any():
            yield chunk
        self.whole = True

    async def stop(self) -> None:
        """End the reading, so that the server may discard what the client still sends."""
        if self._reader is not None and not self._reader.done():
            self._reader.cancel()
            await asyncio.wait({self._reader})


async def _leave_expect_to_sidecar(request: web.Request) -> None:
    """``100 Continue`` is sent when the sidecar wants the body, not before it was asked."""
    expect = request.headers.get(hdrs.EXPECT, "")
    if expect.lower() != "100-continue":
        body = _error("unknown_expectation", f"Nobody here knows Expect: {expect[:100]}.", {})
        raise web.HTTPExpectationFailed(text=json.dumps(body), content_type="application/json")


def _client_left(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _away() -> web.Response:
    return _refusal(
        503,
        "sidecar_unavailable",
        "Atelier's sidecar is not running; ComfyUI's log says why.",
        {"system": "sidecar"},
    )


def _refusal(status: int, code: str, message: str, details: dict[str, str]) -> web.Response:
    return web.json_response(_error(code, message, details), status=status)


def _error(code: str, message: str, details: dict[str, str]) -> dict[str, object]:
    """The sidecar's shape."""
    return {"error": {"code": code, "message": message, "details": details}}

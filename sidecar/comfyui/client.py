"""The ComfyUI port over HTTP and websocket."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from yarl import URL

from ..errors import NotFoundError, UpstreamError
from . import (
    PARTIAL,
    Message,
    ObjectInfo,
    OutputFile,
    Place,
    Prompt,
    Queue,
    SystemStats,
    Whereabouts,
    answers,
)
from .descriptions import Descriptions
from .inbox import Inbox
from .transport import SYSTEM, Answer, Transport, translated, unusable

PACK_HEADER = "X-Atelier-Pack"
SUBMISSION_HEADER = "X-Atelier-Submission"
MAX_MESSAGE_BYTES = 64 << 20
CHUNK_BYTES = 1 << 20
LOOKS = 3
"""How often a prompt that moves from waiting to running is looked for when it is withdrawn."""


@asynccontextmanager
async def connected(
    url: str,
    *,
    client_id: str,
    user: str | None = None,
    password: str | None = None,
    verify_tls: bool = True,
    pack_token: str | None = None,
    object_info_seconds: float = 30.0,
    connect_seconds: float = 5.0,
    read_seconds: float = 30.0,
    heartbeat_seconds: float = 15.0,
) -> AsyncIterator["HttpComfyUI"]:
    """A client for the ComfyUI at ``url``, which need not be there yet.

    ``client_id`` names our websocket. ``read_seconds`` is how long ComfyUI may be silent within an
    answer, ``heartbeat_seconds`` how often it must prove that the websocket's other end lives. A
    user and password may also stand in the URL.
    """
    base = URL(url)
    user, password = user or base.user, password or base.password
    session = aiohttp.ClientSession(
        headers=_basic_auth(user, password or "") if user else None,
        connector=aiohttp.TCPConnector(ssl=verify_tls),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=connect_seconds, sock_read=read_seconds
        ),
    )
    async with session:
        comfyui = HttpComfyUI(
            Transport(session, base.with_user(None)),
            client_id=client_id,
            pack_token=pack_token,
            object_info_seconds=object_info_seconds,
            heartbeat_seconds=heartbeat_seconds,
        )
        try:
            yield comfyui
        finally:
            await comfyui.close()


class HttpComfyUI:
    """One ComfyUI server; see the ``ComfyUI`` port."""

    def __init__(
        self,
        transport: Transport,
        *,
        client_id: str,
        pack_token: str | None = None,
        object_info_seconds: float = 30.0,
        heartbeat_seconds: float = 15.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._client_id = client_id
        self._pack_token = pack_token
        self._heartbeat_seconds = heartbeat_seconds
        self._descriptions = Descriptions(self._ask_object_info, object_info_seconds, monotonic)

    async def close(self) -> None:
        """Stop what runs in the background."""
        await self._descriptions.close()

    async def object_info(self, *, fresh: bool = False) -> ObjectInfo:
        """Every node class. Kept for a while; ``fresh`` asks again."""
        return await (self._descriptions.get_fresh() if fresh else self._descriptions.get())

    async def lora_files(self) -> Sequence[str]:
        """Relative names as this server lists them, with its own path separator."""
        return answers.names(await self._transport.ask("GET", "models/loras"))

    async def submit(
        self, prompt_id: str, attempt: int, prompt: Prompt, extra_data: Mapping[str, Any]
    ) -> None:
        """Queue a prompt under our id; PromptRefusedError when validation fails.

        InvalidError("comfyui_refused") when the request itself is refused for good.
        Never queues an id that is waiting, running or finished there already.
        """
        body = _prompt_body(prompt_id, prompt, extra_data, self._client_id)
        if (await self.find(prompt_id)).place is not Place.UNKNOWN:
            return
        headers = {}
        if self._pack_token is not None:
            headers[PACK_HEADER] = self._pack_token
            headers[SUBMISSION_HEADER] = f"{prompt_id}/{attempt}"
        answer = await self._post_prompt(body, headers)
        if (queued := answers.accepted_id(answer)) != prompt_id:
            await self.withdraw(queued)
            message = "ComfyUI gave the prompt an id of its own; it is too old for Atelier."
            raise UpstreamError(SYSTEM, message, {"request": answer.request})

    async def _post_prompt(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        try:
            answer = await self._transport.ask(
                "POST", "prompt", body=body, headers=headers, accept=(200, 400)
            )
            if answer.status == 400:
                raise answers.refusal(answer)
        except UpstreamError as error:
            if (refused := answers.refusal_for_good(error)) is not None:
                raise refused from error
            raise
        return answer

    async def find(self, prompt_id: str) -> Whereabouts:
        """Where this prompt is: /history first, then /queue, then /history again."""
        if (there := await self._finished(prompt_id)) is not None:
            return there
        if (there := await self._in_queue(prompt_id)) is not None:
            return there
        # it may have ended between the two questions
        return await self._finished(prompt_id) or Whereabouts(Place.UNKNOWN)

    async def queue(self) -> Queue:
        """What runs and waits there, in order: one cheap request for all prompts at once."""
        return answers.queue(await self._transport.ask("GET", "queue"))

    async def withdraw(self, prompt_id: str) -> None:
        """Take it out of the queue, or interrupt it if it runs. Nothing else is touched."""
        for _ in range(LOOKS):
            there = await self._in_queue(prompt_id)
            if there is None:
                return
            if there.place is Place.RUNNING:
                # only while it runs: an old ComfyUI ignores prompt_id and stops whatever runs
                await self._post("interrupt", {"prompt_id": prompt_id})
                return
            # does nothing to one that has begun meanwhile, so look again
            await self._post("queue", {"delete": [prompt_id]})

    @asynccontextmanager
    async def messages(self) -> AsyncIterator[AsyncIterator[Message]]:
        """The websocket, for prompts that ``submit`` queued. Ends when the connection does."""
        with translated("GET /ws"):
            socket = await self._transport.session.ws_connect(
                self._transport.url("ws").with_query(clientId=self._client_id),
                heartbeat=self._heartbeat_seconds,
                max_msg_size=MAX_MESSAGE_BYTES,
                timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
            )
        inbox = Inbox()
        reader = asyncio.create_task(inbox.fill(socket))
        try:
            yield inbox
        finally:
            reader.cancel()
            await asyncio.wait([reader])
            await socket.close()

    @asynccontextmanager
    async def open_file(self, file: OutputFile) -> AsyncIterator[AsyncIterator[bytes]]:
        """Stream a file from ``/view``. NotFoundError("output_file") when it is not there."""
        query = {"filename": file.filename, "subfolder": file.subfolder, "type": file.type}
        async with self._transport.open("GET", "view", query=query) as response:
            # 400 and 403 without a body are ComfyUI's own: not a file of the folders that it serves
            its_own = response.status in (400, 403) and response.content_length == 0
            if response.status == 404 or its_own:
                raise NotFoundError("output_file", query)
            # ComfyUI never sends a page from here; a proxy's sign-in page is not the file
            if response.status != 200 or response.content_type == "text/html":
                raise unusable("GET /view", response.status)
            try:
                yield _chunks(response)
            finally:
                response.close()  # what is left of a big file is not worth reading

    async def system_stats(self) -> SystemStats:
        """Version figures; the cheapest proof that it answers."""
        return answers.system_stats(await self._transport.ask("GET", "system_stats"))

    async def _ask_object_info(self) -> ObjectInfo:
        return answers.object_info(await self._transport.ask("GET", "object_info"))

    async def _finished(self, prompt_id: str) -> Whereabouts | None:
        answer = await self._transport.ask("GET", f"history/{prompt_id}")
        entry = answers.history_entry(answer, prompt_id)
        return Whereabouts(Place.FINISHED, entry) if entry is not None else None

    async def _in_queue(self, prompt_id: str) -> Whereabouts | None:
        return answers.place_in_queue(await self._transport.ask("GET", "queue"), prompt_id)

    async def _post(self, path: str, body: Mapping[str, Any]) -> Answer:
        return await self._transport.ask("POST", path, body=json.dumps(body).encode())


def _basic_auth(user: str, password: str) -> dict[str, str]:
    """RFC 7617, in UTF-8. By hand: what aiohttp has for it differs between 3.11 and 3.14."""
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {token}"}


async def _chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    with translated("GET /view"):
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            yield chunk


def _prompt_body(
    prompt_id: str, prompt: Prompt, extra_data: Mapping[str, Any], client_id: str
) -> bytes:
    """The body of ``POST /prompt``, without anything that stops ComfyUI itself.

    A prompt without client_id sends its previews to every socket, so it gets ours; one that names
    no string ends the process; a node without an object ``inputs`` ends the worker.
    """
    for node_id, node in prompt.items():
        match node:
            case {"class_type": str(), "inputs": dict()}:
                continue
        about = f"node {node_id!r} must have a string class_type and an object inputs"
        error = {"type": "invalid_prompt", "message": about, "details": "", "extra_info": {}}
        raise answers.refused("Invalid prompt", about, {"error": error, "node_errors": {}})
    editor = extra_data.get("client_id")
    body: dict[str, Any] = {
        "prompt": prompt,
        "prompt_id": prompt_id,
        "client_id": editor if isinstance(editor, str) and editor else client_id,
        "extra_data": dict(extra_data),
    }
    if isinstance(targets := extra_data.get(PARTIAL), list):
        body[PARTIAL] = targets  # a prompt of the editor that only some outputs were asked of
    return json.dumps(body).encode()

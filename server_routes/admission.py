"""Every prompt that reaches ComfyUI is admitted by the sidecar first, or came from it."""

import asyncio
import hmac
import json
import logging
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Protocol

from aiohttp import ClientError, ClientSession, ClientTimeout, hdrs, web
from aiohttp.typedefs import Handler

from .address import TOKEN, SidecarAddress
from .headers import PACK_HEADER
from .prompt_shape import Flaw, endless_number_in, flaw_in
from .submissions import Submissions

log = logging.getLogger("atelier")

SUBMISSION_HEADER = "X-Atelier-Submission"
ACCOUNTS_HEADER = "X-Atelier-Accounts"
CREDENTIALS = ("Cookie", "Authorization", "Cf-Access-Jwt-Assertion")
PASSED_ON = ("Retry-After", "WWW-Authenticate")
"""What of a refusal's headers its caller needs."""

# minutes: the sidecar may fetch LoRAs before it answers. One that is away is noticed at once.
ADMIT = ClientTimeout(total=1800, sock_connect=5)
TELL = ClientTimeout(total=30, sock_connect=5)
TELL_AGAIN_AFTER = (0.0, 0.5, 2.0, 5.0, 15.0, 30.0)
TELL_PATIENCE = 1.0
"""How long (seconds) an answer to the browser waits for the sidecar to know of it."""

_NOT_THE_CALLERS = frozenset({"bad_pack_token", "route_not_found"})
"""Refusals of us, not of the prompt: a sidecar that was set up for another pack."""

_AWAY = Flaw(
    "sidecar_unavailable",
    "Atelier's sidecar gives no answer, so nobody can tell whose prompt this is. Nothing was "
    "queued; try again in a moment. If it stays like this, ComfyUI's log says why.",
)

_admitted: ContextVar[dict[str, Any] | None] = ContextVar("admitted", default=None)


class PromptServer(Protocol):
    """What is used of ComfyUI's."""

    number: int
    prompt_queue: Any


class Admission:
    """The middleware in front of ``POST /prompt``, and the handler that swaps the body."""

    def __init__(
        self, address: SidecarAddress, session: ClientSession, server: PromptServer
    ) -> None:
        self._address = address
        self._session = session
        self._server = server
        self._submissions = Submissions()
        self._telling: set[asyncio.Task[None]] = set()

    @staticmethod
    def on_prompt(json_data: dict[str, Any]) -> dict[str, Any]:
        """For ``add_on_prompt_handler``: the admitted body instead of the posted one."""
        admitted = _admitted.get()
        return json_data if admitted is None else admitted

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Admit, then let ComfyUI answer; refuse in ComfyUI's own shape."""
        resource = request.match_info.route.resource
        # by the resolved route: the path may be spelled /%70rompt
        if request.method != "POST" or resource is None:
            return await handler(request)
        if resource.canonical not in ("/prompt", "/api/prompt"):
            return await handler(request)
        return await self._check(request, handler)

    async def _check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            # the very call that ComfyUI's handler makes, so that both see the same body
            body = await request.json()
        except RecursionError:
            return _refusal(400, Flaw("prompt_too_deep", "JSON is nested too deep."))
        except (ValueError, LookupError):
            return await handler(request)
        if not isinstance(body, dict):
            return await handler(request)
        if (flaw := flaw_in(body)) is not None:
            return _refusal(400, flaw)
        if self._is_from_sidecar(request):
            return await self._once(request, handler, body)
        return await self._admit(request, handler, body)

    def _is_from_sidecar(self, request: web.Request) -> bool:
        token = self._address.token
        shown = request.headers.get(PACK_HEADER)
        if token is None or shown is None:
            return False
        return hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), token.encode())

    async def _once(
        self, request: web.Request, handler: Handler, body: Mapping[str, Any]
    ) -> web.StreamResponse:
        """Already admitted; a repeat of what ComfyUI accepted gets the same answer."""
        key = request.headers.get(SUBMISSION_HEADER)
        if key is None:
            return await self._run(request, handler, body)
        if (before := await self._submissions.accepted(key)) is not None:
            return web.Response(body=before, content_type="application/json")
        accepted: bytes | None = None
        try:
            response = await self._run(request, handler, body)
            if response.status == 200:
                accepted = _body_of(response)
            return response
        finally:
            self._submissions.done(key, accepted)

    async def _admit(
        self, request: web.Request, handler: Handler, body: dict[str, Any]
    ) -> web.StreamResponse:
        status, answer, headers = await self._ask_sidecar(request, body)
        if status == 200:
            return await self._run_admitted(request, handler, answer)
        if 400 <= status < 500 and (flaw := _flaw_of(status, answer)) is not None:
            return _refusal(status, flaw, headers)
        if self._address.has_accounts:
            log.warning("[Atelier] A prompt was refused: %s.", self._trouble(status, answer))
            return _refusal(503, _AWAY)
        if (endless := endless_number_in(body)) is not None:
            return _refusal(400, endless)
        log.warning("[Atelier] The sidecar is away: this prompt runs, but is not recorded.")
        return await self._run_unadmitted(request, handler, body)

    def _trouble(self, status: int, answer: Mapping[str, Any]) -> str:
        """What keeps the sidecar from admitting, for the log."""
        if self._address.url is None:
            return "the sidecar is away"
        if self._address.token is None:
            return f"{TOKEN} is not set, so the sidecar cannot be asked"
        if status == 0:
            return "the sidecar gave no usable answer"
        error = answer.get("error")
        code = error.get("code") if isinstance(error, dict) else None
        return f"the sidecar answered {status} ({code})"

    async def _ask_sidecar(
        self, request: web.Request, body: dict[str, Any]
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Status, JSON and headers of ``/internal/admit``; status 0 for no usable answer."""
        url, token = self._address.url, self._address.token
        nothing: tuple[int, dict[str, Any], dict[str, str]] = 0, {}, {}
        if url is None or token is None:
            return nothing
        # the name of the session's cookie has the port in it that the browser knows
        headers = {PACK_HEADER: token, hdrs.HOST: request.host}
        headers.update(
            (name, request.headers[name]) for name in CREDENTIALS if name in request.headers
        )
        try:
            async with self._session.post(
                url + "/internal/admit",
                json={"body": body},
                headers=headers,
                timeout=ADMIT,
                allow_redirects=False,
            ) as response:
                self._address.heard(response.headers.get(ACCOUNTS_HEADER))
                answer = json.loads(await response.read())
        except (ClientError, OSError, asyncio.TimeoutError, ValueError):
            return nothing
        usable = isinstance(answer, dict) and (
            response.status != 200
            or (isinstance(answer.get("run_id"), str) and isinstance(answer.get("body"), dict))
        )
        if not usable:
            return nothing
        passed_on = {n: response.headers[n] for n in PASSED_ON if n in response.headers}
        return response.status, answer, passed_on

    async def _run_admitted(
        self, request: web.Request, handler: Handler, admitted: Mapping[str, Any]
    ) -> web.StreamResponse:
        status, answer = 500, None
        swap = _admitted.set(admitted["body"])
        try:
            response = await self._run(request, handler, admitted["body"])
            status, answer = response.status, _json_of(response)
            return response  # noqa: TRY300 - an else would come after the finally's news
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            _admitted.reset(swap)
            await self._tell({"run_id": admitted["run_id"], "status": status, "answer": answer})

    async def _run_unadmitted(
        self, request: web.Request, handler: Handler, body: Mapping[str, Any]
    ) -> web.StreamResponse:
        """As ComfyUI alone would, but for the id: it could be that of somebody's run."""
        nameless = {name: value for name, value in body.items() if name != "prompt_id"}
        swap = _admitted.set(nameless)
        try:
            return await self._run(request, handler, nameless)
        finally:
            _admitted.reset(swap)

    async def _run(
        self, request: web.Request, handler: Handler, body: Mapping[str, Any]
    ) -> web.StreamResponse:
        """ComfyUI's own handler, unless its queue could not bear the prompt."""
        if self._would_jam(body):
            return _refusal(400, Flaw("prompt_id_in_queue", "This prompt_id is queued already."))
        return await handler(request)

    def _would_jam(self, body: Mapping[str, Any]) -> bool:
        """Two prompts of one number and id are compared as dicts by the heap: its worker dies."""
        if "prompt_id" not in body:
            return False
        number = float(body["number"]) if "number" in body else self._server.number
        if "number" not in body and body.get("front"):
            number = -number
        _running, pending = self._server.prompt_queue.get_current_queue_volatile()
        return any(item[:2] == (number, str(body["prompt_id"])) for item in pending)

    async def _tell(self, news: Mapping[str, Any]) -> None:
        """Let the sidecar know what ComfyUI said; the rest of the tries go on behind the answer."""
        task = asyncio.ensure_future(self._keep_telling(news))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
        await asyncio.wait({task}, timeout=TELL_PATIENCE)

    async def _keep_telling(self, news: Mapping[str, Any]) -> None:
        for pause in TELL_AGAIN_AFTER:
            await asyncio.sleep(pause)
            url, token = self._address.url, self._address.token
            if url is None or token is None:
                continue
            try:
                async with self._session.post(
                    url + "/internal/admitted",
                    json=news,
                    headers={PACK_HEADER: token},
                    timeout=TELL,
                    allow_redirects=False,
                ) as response:
                    if response.status < 500:
                        return
            except (ClientError, OSError, asyncio.TimeoutError):
                continue
        log.warning("[Atelier] The sidecar did not hear how run %s was received.", news["run_id"])


def _body_of(response: web.StreamResponse) -> bytes:
    body = response.body if isinstance(response, web.Response) else None
    return body if isinstance(body, bytes) else b""


def _json_of(response: web.StreamResponse) -> Any:
    try:
        return json.loads(_body_of(response))
    except ValueError:
        return None


def _flaw_of(status: int, answer: Mapping[str, Any]) -> Flaw | None:
    """The sidecar's refusal in ComfyUI's terms; None for one of us, not of the prompt."""
    error = answer.get("error")
    if not isinstance(error, dict) or error.get("code") in _NOT_THE_CALLERS:
        return None
    code, message, details = str(error.get("code")), str(error.get("message")), error.get("details")
    about = details if isinstance(details, dict) else {}
    if status == 401:
        return Flaw(
            code, "Sign in at /api/v1/comfyui/sign-in to queue prompts", about, details=message
        )
    return Flaw(code, message, about)


def _refusal(status: int, flaw: Flaw, headers: Mapping[str, str] | None = None) -> web.Response:
    """A refusal in ComfyUI's shape: the editor shows its message."""
    error = {
        "type": flaw.type,
        "message": flaw.message,
        "details": flaw.details,
        "extra_info": dict(flaw.extra_info),
    }
    return web.json_response({"error": error, "node_errors": {}}, status=status, headers=headers)

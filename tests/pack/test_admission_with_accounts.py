"""Where people sign in no prompt runs that the sidecar has not admitted, whatever ails it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession, web
from server import PromptServer  # noqa: TID253 -- the fake
from wired_pack import TOKEN, Sidecar, Wired, listening

from server_routes import wire
from server_routes.address import SidecarAddress

GRAPH = {"1": {"class_type": "SaveImage", "inputs": {"lora_name": "user-1/theirs"}}}
ADMITTED = {"run_id": "run-1", "body": {"prompt": GRAPH, "prompt_id": "run-1"}}


def refusal(code: str) -> dict[str, Any]:
    """In Atelier's shape."""
    return {"error": {"code": code, "message": "No.", "details": {}}}


class Chosen:
    """A ComfyUI whose user has set where the sidecar is."""

    def __init__(self, wired: Wired, sidecar: Sidecar) -> None:
        self.wired = wired
        self.sidecar = sidecar

    def answers(self, status: int, answer: Any, accounts: str | None = None) -> None:
        """From now on to whoever wants a prompt admitted."""

        async def admit(_request: web.Request) -> web.Response:
            headers = {} if accounts is None else {"X-Atelier-Accounts": accounts}
            return web.json_response(answer, status=status, headers=headers)

        self.sidecar.on("/internal/admit", admit)

    async def post(self, **fields: Any) -> tuple[int, Any]:
        """A prompt: status and JSON."""
        async with self.wired.client.post("/prompt", json={"prompt": GRAPH, **fields}) as response:
            return response.status, await response.json()

    async def is_refused(self) -> bool:
        """Whether a prompt is, in ComfyUI's shape, and nothing is queued."""
        before = list(self.wired.queued)
        status, answer = await self.post()
        if status != 503:
            return False
        assert answer["error"]["type"] == "sidecar_unavailable"
        assert "Nothing was queued" in answer["error"]["message"]
        assert (answer["error"]["extra_info"], answer["node_errors"]) == ({}, {})
        return self.wired.queued == before


async def wired_to(
    sidecar: Sidecar, environment: dict[str, str], *, chosen: bool
) -> AsyncIterator[Chosen]:
    """A ComfyUI with this environment and a sidecar that listens."""
    async with listening(sidecar.app) as sidecar_port:
        url = f"http://127.0.0.1:{sidecar_port}"
        address: SidecarAddress | None = SidecarAddress(TOKEN, environment)
        if chosen:
            environment["ATELIER_SIDECAR_URL"] = url
            address = SidecarAddress.chosen_by_user(environment)
        assert address is not None
        host = PromptServer()
        wire(host, address, None)
        host.add_routes()
        async with listening(host.app) as port:
            if not chosen:
                address.arrived(url)
            async with ClientSession(f"http://127.0.0.1:{port}") as client:
                yield Chosen(Wired(host, address, client, port), sidecar)


@pytest.fixture
async def launched(sidecar: Sidecar) -> AsyncIterator[Chosen]:
    """A sidecar that the pack has started, with accounts."""
    async for made in wired_to(sidecar, {"ATELIER_AUTH": "local,cloudflare"}, chosen=False):
        yield made


@pytest.fixture
async def chosen(sidecar: Sidecar) -> AsyncIterator[Chosen]:
    """A sidecar of the user's own."""
    async for made in wired_to(sidecar, {"ATELIER_PACK_TOKEN": TOKEN}, chosen=True):
        yield made


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (500, refusal("internal_error")),
        (503, refusal("database_unavailable")),
        (401, refusal("bad_pack_token")),
        (404, refusal("route_not_found")),
        (400, {"error": "Bad Request"}),
        (422, "nonsense"),
        (200, {"run_id": 5}),
        (200, ["x"]),
        (302, ADMITTED),
    ],
)
async def test_a_sidecar_in_trouble_lets_no_prompt_run(
    launched: Chosen, status: int, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    launched.answers(status, answer, accounts="off")

    assert await launched.is_refused()
    assert "A prompt was refused" in caplog.text


async def test_while_it_is_away_no_prompt_runs(launched: Chosen) -> None:
    launched.answers(200, ADMITTED)
    assert (await launched.post())[0] == 200
    launched.wired.address.left()

    assert await launched.is_refused()


@pytest.mark.parametrize("auth", ["", "none", " none "])
async def test_a_launched_sidecar_without_accounts_is_no_obstacle(
    sidecar: Sidecar, auth: str
) -> None:
    async for made in wired_to(sidecar, {"ATELIER_AUTH": auth}, chosen=False):
        made.wired.address.left()
        assert (await made.post())[0] == 200


async def test_a_sidecar_of_the_users_own_that_never_answered_counts_as_one_with_accounts(
    chosen: Chosen,
) -> None:
    chosen.answers(503, refusal("database_unavailable"))

    assert await chosen.is_refused()


async def test_one_that_has_said_that_nobody_signs_in_does_not_stop_comfyui(
    chosen: Chosen,
) -> None:
    chosen.answers(200, ADMITTED, accounts="off")
    assert (await chosen.post())[0] == 200
    chosen.answers(500, refusal("internal_error"))

    assert (await chosen.post())[0] == 200
    assert len(chosen.wired.queued) == 2


async def test_what_it_said_last_holds(chosen: Chosen) -> None:
    chosen.answers(200, ADMITTED, accounts="off")
    await chosen.post()
    chosen.answers(503, refusal("database_unavailable"), accounts="on")
    assert await chosen.is_refused()
    chosen.answers(500, refusal("internal_error"), accounts="perhaps")

    assert await chosen.is_refused()


async def test_without_the_pack_token_a_sidecar_of_the_users_own_lets_nothing_run(
    sidecar: Sidecar, caplog: pytest.LogCaptureFixture
) -> None:
    async for made in wired_to(sidecar, {}, chosen=True):
        assert await made.is_refused()
    assert "ATELIER_PACK_TOKEN is not set" in caplog.text
    assert sidecar.paths == []

"""Prompts posted to ComfyUI: the sidecar's own, the editor's, and what neither may do."""

import asyncio
import json
import logging
from typing import Any

import pytest
from aiohttp import web
from wired_pack import TOKEN, Sidecar, Wired

GRAPH = {"1": {"class_type": "SaveImage", "inputs": {"lora_name": "mine"}}}
PINNED = {"1": {"class_type": "SaveImage", "inputs": {"lora_name": "user-1/mine.00000000"}}}


class Office:
    """The sidecar's side of admission."""

    def __init__(self, sidecar: Sidecar, *, status: int = 200, answer: Any = None) -> None:
        self.status = status
        self.answer = answer or {
            "run_id": "run-1",
            "body": {"prompt": PINNED, "prompt_id": "run-1", "client_id": "c"},
        }
        self.asked: list[tuple[dict[str, str], Any]] = []
        self.told: asyncio.Queue[Any] = asyncio.Queue()
        self.deaf = 0
        sidecar.on("/internal/admit", self.admit)
        sidecar.on("/internal/admitted", self.admitted)

    async def admit(self, request: web.Request) -> web.Response:
        """Answer what the test wants."""
        self.asked.append((dict(request.headers), await request.json()))
        headers = {429: {"Retry-After": "7"}, 401: {"WWW-Authenticate": "Bearer"}}.get(self.status)
        return web.json_response(self.answer, status=self.status, headers=headers)

    async def admitted(self, request: web.Request) -> web.Response:
        """Hear it, unless deaf."""
        self.deaf -= 1
        if self.deaf >= 0:
            return web.Response(status=500)
        self.told.put_nowait(await request.json())
        return web.Response(status=204)


def refusal(code: str) -> dict[str, Any]:
    """In Atelier's shape."""
    return {"error": {"code": code, "message": "No LoRA named 'x'.", "details": {"names": ["x"]}}}


@pytest.mark.parametrize("path", ["/prompt", "/api/prompt", "/api/%70rompt"])
async def test_an_admitted_prompt_runs_as_the_sidecar_rewrote_it(
    wired: Wired, sidecar: Sidecar, path: str
) -> None:
    office = Office(sidecar)
    posted = {"prompt": GRAPH, "client_id": "c"}

    response = await wired.client.post(
        path,
        json=posted,
        headers={"Cookie": "session=1", "Host": "studio.example:8188", "X-Atelier-As": "somebody"},
    )

    assert await response.json() == {"prompt_id": "run-1", "number": 0, "node_errors": {}}
    assert wired.host.prompt_queue.queue == [(0, "run-1", PINNED, {})]
    ((headers, asked),) = office.asked
    assert asked == {"body": posted}
    assert (headers["X-Atelier-Pack"], headers["Cookie"]) == (TOKEN, "session=1")
    assert headers["Host"] == "studio.example:8188"
    assert "X-Atelier-As" not in headers


async def test_the_sidecar_hears_what_comfyui_said(wired: Wired, sidecar: Sidecar) -> None:
    office = Office(sidecar)

    await wired.client.post("/prompt", json={"prompt": GRAPH})

    assert await office.told.get() == {
        "run_id": "run-1",
        "status": 200,
        "answer": {"prompt_id": "run-1", "number": 0, "node_errors": {}},
    }


async def test_the_sidecar_hears_of_comfyuis_refusal(wired: Wired, sidecar: Sidecar) -> None:
    body = {"prompt": "invalid", "prompt_id": "run-1"}
    office = Office(sidecar, answer={"run_id": "run-1", "body": body})

    response = await wired.client.post("/prompt", json={"prompt": GRAPH})

    assert response.status == 400
    told = await office.told.get()
    assert (told["status"], told["answer"]) == (400, await response.json())


async def test_the_sidecar_hears_of_comfyuis_collapse(wired: Wired, sidecar: Sidecar) -> None:
    office = Office(sidecar, answer={"run_id": "run-1", "body": {}})

    response = await wired.client.post("/prompt", json={"prompt": GRAPH})

    assert response.status == 500
    assert await office.told.get() == {"run_id": "run-1", "status": 500, "answer": None}


async def test_news_is_told_again_until_it_is_heard(wired: Wired, sidecar: Sidecar) -> None:
    office = Office(sidecar)
    office.deaf = 2

    response = await wired.client.post("/prompt", json={"prompt": GRAPH})

    assert response.status == 200
    assert (await office.told.get())["run_id"] == "run-1"


async def test_who_is_not_signed_in_is_told_to_in_comfyuis_shape(
    wired: Wired, sidecar: Sidecar
) -> None:
    error = {"code": "bad_token", "message": "The session has ended.", "details": {}}
    Office(sidecar, status=401, answer={"error": error})

    response = await wired.client.post("/api/prompt", json={"prompt": GRAPH})

    assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert await response.json() == {
        "error": {
            "type": "bad_token",
            "message": "Sign in at /api/v1/comfyui/sign-in to queue prompts",
            "details": "The session has ended.",
            "extra_info": {},
        },
        "node_errors": {},
    }
    assert wired.queued == []


@pytest.mark.parametrize("status", [403, 422, 429])
async def test_a_refusal_comes_in_comfyuis_shape(
    wired: Wired, sidecar: Sidecar, status: int
) -> None:
    Office(sidecar, status=status, answer=refusal("lora_not_found"))

    response = await wired.client.post("/prompt", json={"prompt": GRAPH})

    assert response.status == status
    assert response.headers.get("Retry-After") == ("7" if status == 429 else None)
    assert await response.json() == {
        "error": {
            "type": "lora_not_found",
            "message": "No LoRA named 'x'.",
            "details": "",
            "extra_info": {"names": ["x"]},
        },
        "node_errors": {},
    }
    assert wired.queued == []


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (500, refusal("internal_error")),
        (503, refusal("database_unavailable")),
        (401, refusal("bad_pack_token")),
        (404, refusal("route_not_found")),
        (422, "nonsense"),
        (200, {"run_id": 5}),
        (200, ["x"]),
        (302, {"run_id": "run-1", "body": {"prompt": PINNED}}),
    ],
)
async def test_a_sidecar_in_trouble_does_not_stop_comfyui(
    wired: Wired, sidecar: Sidecar, caplog: pytest.LogCaptureFixture, status: int, answer: Any
) -> None:
    Office(sidecar, status=status, answer=answer)

    response = await wired.client.post("/prompt", json={"prompt": GRAPH, "prompt_id": "mine"})

    assert response.status == 200
    ((number, _, prompt, extra),) = wired.host.prompt_queue.queue
    assert (number, prompt, extra) == (0, GRAPH, {})
    assert [r.levelno for r in caplog.records if "not recorded" in r.message] == [logging.WARNING]


async def test_without_a_sidecar_comfyui_works_as_before(wired: Wired) -> None:
    wired.address.left()
    posted = {"prompt": GRAPH, "number": 5, "extra_data": {"client_id": "c"}}

    response = await wired.client.post("/prompt", json=posted)

    assert (response.status, (await response.json())["number"]) == (200, 5)
    ((number, _, *what),) = wired.host.prompt_queue.queue
    assert (number, what) == (5, [GRAPH, {"client_id": "c"}])


@pytest.mark.parametrize("spelled", ["prompt_id", "prompt\\u005fid"])
async def test_nobody_chooses_the_id_of_a_prompt_that_is_not_recorded(
    wired: Wired, spelled: str
) -> None:
    wired.address.left()
    posted = json.dumps({"prompt": GRAPH}).replace("{", f'{{"{spelled}": "run-1", ', 1)

    response = await wired.client.post("/prompt", data=posted)

    assert response.status == 200
    (prompt_id,) = wired.queued
    assert prompt_id != "run-1"
    assert (await response.json())["prompt_id"] == prompt_id


async def test_an_admitted_body_is_not_used_again_on_the_same_connection(
    wired: Wired, sidecar: Sidecar
) -> None:
    Office(sidecar)
    await wired.client.post("/prompt", json={"prompt": GRAPH})
    wired.address.left()

    await wired.client.post("/prompt", json={"prompt": GRAPH})

    assert [item[2] for item in wired.host.prompt_queue.queue] == [PINNED, GRAPH]


@pytest.mark.parametrize("away", [True, False])
async def test_a_deadly_prompt_never_reaches_comfyui(
    wired: Wired, sidecar: Sidecar, away: bool
) -> None:
    office = Office(sidecar)
    if away:
        wired.address.left()

    response = await wired.client.post("/prompt", json={"prompt": GRAPH, "extra_data": None})

    assert response.status == 400
    answer = await response.json()
    assert answer["error"]["type"] == "invalid_extra_data"
    assert answer["node_errors"] == {}
    assert (wired.queued, office.asked) == ([], [])


@pytest.mark.parametrize("text", ["nan", " -Infinity", "1e999", {"__value__": "NaN"}])
async def test_while_the_sidecar_is_away_no_text_may_turn_into_an_endless_number(
    wired: Wired, text: Any
) -> None:
    wired.address.left()
    graph = {"1": {"class_type": "SaveImage", "inputs": {"scale": text, "prefix": "nancy"}}}

    response = await wired.client.post("/prompt", json={"prompt": graph})

    assert response.status == 400
    assert (await response.json())["error"]["type"] == "invalid_number"
    assert wired.queued == []


async def test_json_nested_too_deep_to_read_is_refused(wired: Wired) -> None:
    response = await wired.client.post("/prompt", data="[" * 100_000)

    assert response.status == 400


@pytest.mark.parametrize("body", ["{", "", "null", "[1]", "\ufeff{}"])
async def test_what_is_no_prompt_at_all_is_left_to_comfyui(
    wired: Wired, sidecar: Sidecar, body: str
) -> None:
    office = Office(sidecar)

    response = await wired.client.post("/prompt", data=body.encode())

    assert response.status == 500
    assert office.asked == []


async def test_two_prompts_of_one_number_and_id_never_meet_in_the_queue(wired: Wired) -> None:
    headers = {"X-Atelier-Pack": TOKEN}
    first = {"prompt": GRAPH, "number": 5, "prompt_id": "same"}
    await wired.client.post("/prompt", json=first, headers=headers)

    response = await wired.client.post("/prompt", json={**first, "prompt": PINNED}, headers=headers)

    assert (await response.json())["error"]["type"] == "prompt_id_in_queue"
    assert wired.queued == ["same"]


async def submit(wired: Wired, key: str | None, token: str = TOKEN) -> Any:
    """Post as the sidecar does: status and JSON."""
    headers = {"X-Atelier-Pack": token}
    if key is not None:
        headers["X-Atelier-Submission"] = key
    body = {"prompt": PINNED, "prompt_id": "run-1"}
    async with wired.client.post("/prompt", json=body, headers=headers) as response:
        return response.status, await response.json()


async def test_the_sidecars_own_submission_is_not_asked_about(
    wired: Wired, sidecar: Sidecar
) -> None:
    office = Office(sidecar)

    assert (await submit(wired, "run-1/1"))[0] == 200
    assert (wired.queued, office.asked) == (["run-1"], [])


async def test_a_wrong_token_is_anybody(wired: Wired, sidecar: Sidecar) -> None:
    office = Office(sidecar)

    await submit(wired, "run-1/1", token="guess")

    assert len(office.asked) == 1


async def test_a_submission_counts_even_before_its_sidecar_is_announced(wired: Wired) -> None:
    wired.address.left()

    assert await submit(wired, "run-1/1") == await submit(wired, "run-1/1")
    assert wired.queued == ["run-1"]


async def test_a_repeated_submission_is_answered_without_queueing_again(wired: Wired) -> None:
    first = await submit(wired, "run-1/1")

    assert await submit(wired, "run-1/1") == first
    assert wired.queued == ["run-1"]


async def test_submissions_at_the_same_moment_become_one(wired: Wired) -> None:
    answers = await asyncio.gather(*(submit(wired, "run-1/1") for _ in range(20)))

    assert {json.dumps(answer) for answer in answers} == {json.dumps(answers[0])}
    assert wired.queued == ["run-1"]


async def test_another_attempt_is_another_submission(wired: Wired) -> None:
    await submit(wired, "run-1/1")
    await submit(wired, "run-1/2")

    assert wired.queued == ["run-1", "run-1"]


async def test_a_refused_submission_may_come_again(wired: Wired) -> None:
    wired.host.prompt_queue.put((0, "run-1", {}, {}))
    wired.host.number = 0
    assert (await submit(wired, "run-1/1"))[0] == 400
    wired.host.prompt_queue.queue.clear()

    assert (await submit(wired, "run-1/1"))[0] == 200


async def test_other_routes_pass_untouched(wired: Wired, sidecar: Sidecar) -> None:
    office = Office(sidecar)

    response = await wired.client.get("/prompt")

    assert response.status == 405
    assert office.asked == []

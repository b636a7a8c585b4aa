"""The stand-in held to the real ComfyUI: websocket messages, the queue, interrupts, history."""

import asyncio
import copy
import json
from typing import Any
from uuid import uuid4

import pytest
from comfyui_pair import Pair, Prompt, Server, comparable, differences, new_prompt
from waiting import until

pytestmark = pytest.mark.comfyui


async def _messages(server: Server, client_id: str, *prompts: Prompt) -> list[Any]:
    """What a client hears while its prompts run."""
    heard = []
    url = f"{server.url}/ws?clientId={client_id}"
    async with server.session.ws_connect(url) as socket:
        for prompt in prompts:
            order = {"prompt": prompt, "prompt_id": "<id>", "client_id": client_id}
            await server.ask("POST", "/prompt", json=order)
            while True:
                message = await socket.receive_json()
                heard.append(message)
                if message["type"] == "executing" and message["data"]["node"] is None:
                    break
    return [message for n, message in enumerate(heard) if n == 0 or message["type"] != "status"]


async def test_a_client_hears_the_same_messages_in_the_same_order(pair: Pair) -> None:
    first = new_prompt()
    first["6"]["inputs"]["steps"] = 3
    failing = new_prompt()
    failing["8"]["inputs"]["filename_prefix"] = "../outside"
    prompts = [first, copy.deepcopy(first), failing]
    heard = [await _messages(server, "listener", *copy.deepcopy(prompts)) for server in pair]
    assert differences(heard[0], heard[1]) == []


async def _interrupted(server: Server, prompts: list[Prompt]) -> list[Any]:
    """A prompt waits behind one that runs; the first is interrupted, the second deleted."""
    running, waiting = f"running-{uuid4().hex}", f"waiting-{uuid4().hex}"
    answers = []
    for prompt_id, prompt in zip((running, waiting), prompts, strict=True):
        order = {"prompt": prompt, "prompt_id": prompt_id, "client_id": "me"}
        await server.ask("POST", "/prompt", json=order)

    async def runs() -> bool:
        return bool((await server.ask("GET", "/queue"))[1]["queue_running"])

    await until(runs)
    answers.append(await server.ask("GET", "/queue"))
    answers.append(await server.ask("GET", "/prompt"))
    answers.append(await server.ask("POST", "/queue", json={"delete": [running, waiting, "x"]}))
    answers.append(await server.ask("GET", "/prompt"))
    answers.append(await server.ask("POST", "/interrupt", json={"prompt_id": "somebody else's"}))
    answers.append(await server.ask("GET", "/prompt"))

    async def ended() -> bool:
        answers.append(await server.ask("POST", "/interrupt", json={"prompt_id": running}))
        await asyncio.sleep(0.2)
        gone = bool((await server.ask("GET", f"/history/{running}"))[1])
        if not gone:
            answers.pop()
        return gone

    await until(ended)
    answers.append(await server.ask("GET", f"/history/{waiting}"))
    history = await server.ask("GET", f"/history/{running}")
    text = json.dumps([*answers, history]).replace(running, "running").replace(waiting, "waiting")
    found: list[Any] = json.loads(text)
    return found


async def test_interrupting_and_deleting_look_the_same(pair: Pair) -> None:
    prompts = [new_prompt(), new_prompt()]
    for prompt in prompts:
        prompt["6"]["inputs"]["steps"] = 2000
    found = [comparable(await _interrupted(server, copy.deepcopy(prompts))) for server in pair]
    for answers in found:
        (_, messages) = answers[-1][1]["running"]["status"]["messages"][-1]
        # where it was when it was told to stop
        messages.update(node_id="<any>", node_type="<any>", executed=[])
    assert differences(found[0], found[1]) == []


async def test_the_front_of_the_queue_is_the_same_place(pair: Pair) -> None:
    found = []
    for server in pair:
        long = new_prompt()
        long["6"]["inputs"]["steps"] = 2000
        orders: list[tuple[Prompt, str, dict[str, Any]]]
        orders = [(long, "running", {}), (new_prompt(), "second", {}), (new_prompt(), "third", {})]
        orders += [
            (new_prompt(), "front", {"front": True}),
            (new_prompt(), "zero", {"number": -1e6}),
        ]
        for prompt, name, how in orders:
            await server.ask("POST", "/prompt", json={"prompt": prompt, "prompt_id": name, **how})
        _, queue = await server.ask("GET", "/queue")
        found.append([item[1] for item in sorted(queue["queue_pending"])])
        await server.ask("POST", "/queue", json={"clear": True})
        await server.ask("POST", "/interrupt", json={})

        async def idle(server: Server = server) -> bool:
            _, waiting = await server.ask("GET", "/prompt")
            if waiting["exec_info"]["queue_remaining"]:
                await server.ask("POST", "/interrupt", json={})
            return not waiting["exec_info"]["queue_remaining"]

        await until(idle)
    assert found[1] == found[0]


async def test_the_history_is_paged_the_same_way(pair: Pair) -> None:
    for number in range(3):
        for server in pair:
            prompt = {"1": {"class_type": "PreviewAny", "inputs": {"source": f"{number}"}}}
            await server.ask("POST", "/prompt", json={"prompt": prompt, "prompt_id": f"p{number}"})
    for server in pair:

        async def ended(server: Server = server) -> bool:
            return len((await server.ask("GET", "/history"))[1]) == 3

        await until(ended)
    for query in (
        "",
        "?max_items=2",
        "?max_items=2&offset=0",
        "?offset=1",
        "?max_items=0",
        "?max_items=5&offset=9",
        "?max_items=x",
    ):
        real, stand_in = await pair.both("GET", f"/history{query}")
        assert _ids(stand_in) == _ids(real), query
    await pair.both("POST", "/history", json={"delete": ["p1", "nothing"]})
    real, stand_in = await pair.both("GET", "/history")
    assert _ids(stand_in) == _ids(real)


def _ids(answer: tuple[int, Any]) -> tuple[int, list[str] | None]:
    return answer[0], None if answer[1] is None else list(answer[1])

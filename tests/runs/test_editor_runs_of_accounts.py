"""Whose LoRAs a node of ComfyUI gets, where people sign in: those of whoever's prompt runs."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from studio import drawing, lora_file
from two_people import Person, World, opened_world


@pytest.fixture(params=["sqlite", "postgres"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A studio with accounts, on each database; its ComfyUI is held up."""
    urls = None
    if request.param == "postgres":
        name = request.getfixturevalue("postgres_name")
        postgres = request.getfixturevalue("postgres")
        urls = postgres.url(name), postgres.admin_url(name)
    async with opened_world(tmp_path, urls) as made:
        made.stand_in.hold()
        yield made


async def a_node_hears(world: World, prompt_id: str, lora: str) -> int:
    """The status of the answer to a node that asks for a LoRA, the same of either route."""
    statuses = set()
    for path in ("resolve", "ensure"):
        order = {"prompt_id": prompt_id, "lora": lora}
        url = f"{world.studio.host}/internal/loras/{path}"
        async with world.studio.session.post(url, json=order, headers=world.studio.pack) as answer:
            await answer.read()
            statuses.add(answer.status)
    (status,) = statuses
    return status


async def admitted(person: Person, prompt: Any) -> str:
    """The run of a prompt that was posted to ComfyUI, which has it now."""
    pack = person.studio.pack
    order = {"body": {"prompt": prompt}}
    answer = await person.ask("POST", "//internal/admit", json=order, headers=pack)
    news = {"run_id": answer["run_id"], "status": 200, "answer": {}}
    assert (await person.studio.ask("POST", "//internal/admitted", json=news, headers=pack)) == (
        204,
        None,
    )
    return str(answer["run_id"])


async def test_a_prompt_speaks_for_its_owner_until_its_run_has_ended(world: World) -> None:
    ann = await world.join("ann@example.org", sessions=1)
    ben = await world.join("ben@example.org", sessions=1)
    await ann.upload("secret-style", lora_file())
    going = await admitted(ann, drawing(1))
    bens = await admitted(ben, drawing(2))

    assert await a_node_hears(world, going, "secret-style") == 200
    assert await a_node_hears(world, bens, "secret-style") == 422

    await ann.ask("POST", f"/runs/{going}/cancel")
    assert await a_node_hears(world, going, "secret-style") == 401

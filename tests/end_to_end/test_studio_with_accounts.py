"""The whole sidecar with accounts on: who signs in, who is put out, what becomes of their runs."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from studio import Studio, drawing, settings_for, stand_in_at
from studio import studio as running_studio
from waiting import until

from sidecar.comfyui.stand_in import StandIn
from sidecar.settings import Settings

pytestmark = pytest.mark.usefixtures("each_database")

ANN, BEN = "ann@example.org", "ben@example.org"
PASSWORD = "correct horse battery"


@pytest.fixture
def settings(tmp_path: Path, served_stand_in: tuple[StandIn, str]) -> Settings:
    return settings_for(tmp_path, served_stand_in[1], ATELIER_AUTH="local")


async def users(settings: Settings, *arguments: str) -> str:
    """``python -m sidecar users ...`` in a process of its own, as an operator runs it."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ATELIER_")},
        "ATELIER_DATA_DIR": str(settings.data_dir),
        "ATELIER_AUTH": "local",
    }
    if settings.database_url is not None:
        environment["DATABASE_URL"] = settings.database_url.get_secret_value()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sidecar", "users", *arguments),
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, errors = await process.communicate(f"{PASSWORD}\n".encode())
    assert process.returncode == 0, errors.decode()
    return said.decode()


@pytest.fixture
async def studio(settings: Settings) -> AsyncIterator[Studio]:
    async with running_studio(settings) as made:
        yield made


async def sign_in(studio: Studio, email: str) -> dict[str, str]:
    """The headers of somebody who has signed in."""
    order = {"email": email, "password": PASSWORD}
    status, answer = await studio.ask("POST", "/auth/login", json=order)
    assert status == 200, answer
    return {"Authorization": f"Bearer {answer['access_token']}"}


async def test_nobody_gets_in_without_signing_in(studio: Studio) -> None:
    for path in ("/workflows", "/loras", "/runs", "/auth/me", "/users"):
        status, answer = await studio.ask("GET", path)
        assert (status, answer["error"]["code"]) == (401, "sign_in_required")
    for path in ("//health", "//ready", "/openapi.json"):
        assert (await studio.ask("GET", path))[0] == 200


async def test_who_was_added_while_the_studio_runs_signs_in_and_runs(
    studio: Studio, settings: Settings
) -> None:
    await users(settings, "add", ANN, "--password-stdin")
    ann = await sign_in(studio, ANN)
    body = {"workflow_json": drawing()}
    status, run = await studio.ask("POST", "/runs", json=body, headers=ann)
    assert status == 202
    studio.session.headers.update(ann)
    assert (await studio.until(run["id"]))["status"] == "succeeded"


async def test_what_was_made_before_accounts_were_on_is_the_first_account_s(
    tmp_path: Path, served_stand_in: tuple[StandIn, str], settings: Settings
) -> None:
    async with running_studio(settings_for(tmp_path, served_stand_in[1])) as before:
        workflow = await before.save(drawing(), name="old")
    async with running_studio(settings) as studio:
        await users(settings, "add", ANN, "--password-stdin")
        await users(settings, "add", BEN, "--password-stdin")
        status, found = await studio.ask(
            "GET", f"/workflows/{workflow}", headers=await sign_in(studio, ANN)
        )
        assert (status, found["name"]) == (200, "old")
        ben = await sign_in(studio, BEN)
        assert (await studio.ask("GET", f"/workflows/{workflow}", headers=ben))[0] == 404
        assert (await studio.ask("GET", "/users", headers=ben))[0] == 403


async def test_a_disabled_account_is_put_out_at_once(tmp_path: Path) -> None:
    async with stand_in_at(tmp_path, step_seconds=0.3) as (_, url):
        settings = settings_for(tmp_path, url, ATELIER_AUTH="local")
        async with running_studio(settings) as studio:
            await users(settings, "add", ANN, "--password-stdin")
            await users(settings, "add", BEN, "--password-stdin")
            ben = await sign_in(studio, BEN)
            body = {"workflow_json": drawing(), "input_params": {"6.steps": 200}}
            runs = [
                (await studio.ask("POST", "/runs", json=body, headers=ben))[1] for _ in "123456"
            ]
            events = f"{studio.api}/runs/{runs[0]['id']}/events"
            async with studio.session.get(events, headers=ben) as stream:
                assert stream.status == 200
                await users(settings, "disable", BEN)
                await stream.content.read()
            status, answer = await studio.ask("GET", "/runs", headers=ben)
            assert (status, answer["error"]["code"]) == (401, "session_ended")
            await until(lambda: has_nothing_to_do(studio, url))
            assert await seen_by_the_admin(studio, BEN) == ["cancelled"] * len(runs)


async def has_nothing_to_do(studio: Studio, comfyui_url: str) -> bool:
    """Whether ComfyUI has let go of every prompt."""
    async with studio.session.get(f"{comfyui_url}/queue") as answer:
        queue = await answer.json()
    return not queue["queue_running"] and not queue["queue_pending"]


async def seen_by_the_admin(studio: Studio, email: str) -> list[str]:
    """The states of somebody's runs, asked for by the admin, explicitly."""
    admin = await sign_in(studio, ANN)
    _, listed = await studio.ask("GET", "/users", headers=admin)
    account = next(user["id"] for user in listed["items"] if user["email"] == email)
    acting = {**admin, "X-Atelier-As": account}
    _, page = await studio.ask("GET", "/runs", headers=acting)
    return [run["status"] for run in page["items"]]

"""A studio that has moved goes on where it was: seen over HTTP, by the real sidecar."""

import io
from argparse import Namespace
from pathlib import Path

from clock import FakeClock
from databases import sqlite_database
from moving_house import NewHouse
from some_runs import some_run
from studio import Studio, drawing, lora_file, settings_for, stand_in_at, studio

from sidecar.commands.copy import run
from sidecar.principal import LOCAL
from sidecar.runs.models import Status
from sidecar.runs.store import RunStore


async def seen(served: Studio, lora: str, workflow: str, made: str) -> list[object]:
    """What three pages show, with the bytes that they lead to."""
    answers: list[object] = [
        await served.ask("GET", path)
        for path in (f"/loras/{lora}", f"/workflows/{workflow}", f"/runs/{made}", "/runs")
    ]
    _, finished = await served.ask("GET", f"/runs/{made}")
    answers.append(await served.picture(finished))
    async with served.session.get(f"{served.api}/loras/{lora}/file") as response:
        answers.append(await response.read())
    return answers


async def test_what_was_made_is_shown_and_what_waits_is_made(
    tmp_path: Path, on_postgres: NewHouse
) -> None:
    async with stand_in_at(tmp_path) as (_, url):
        old = settings_for(tmp_path, url)
        async with studio(old) as served:
            lora = (await served.upload("style.safetensors", lora_file()))["id"]
            prompt = drawing(lora="style.safetensors")
            workflow = await served.save(prompt)
            made = (await served.until((await served.run(prompt))["id"]))["id"]
            before = await seen(served, lora, workflow, made)
        waits = some_run(
            FakeClock().now(), status=Status.RUNNING, prompt=drawing(seed=5), worker_id="local",
            attempts=1, history={"outputs": {}},
        )  # fmt: skip
        async with sqlite_database(old.database_file) as old_one, old_one.transaction(LOCAL) as tx:
            await RunStore(tx).add(waits)

        asked = Namespace(to=on_postgres.url, to_blobs=tmp_path / "new" / "blobs")
        assert await run(asked, old, io.StringIO()) == 0

        changes = {"ATELIER_DATA_DIR": tmp_path / "new", "DATABASE_URL": on_postgres.url}
        async with studio(settings_for(tmp_path, url, **changes)) as served:
            ended = await served.until(str(waits.id))
            assert await served.ask("DELETE", f"/runs/{waits.id}") == (204, None)
            after = await seen(served, lora, workflow, made)
    assert (ended["status"], ended["attempts"]) == ("succeeded", 2)
    assert after == before

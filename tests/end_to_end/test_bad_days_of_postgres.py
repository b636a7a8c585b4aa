"""Postgres crashes while people work: 503 that names it, and everything goes on afterwards."""

from pathlib import Path

from databases import PostgresStudios
from postgres_server import PostgresServer
from studio import Studio, drawing, lora_file, settings_for, stand_in_at, studio


async def refused(client: Studio, method: str, path: str, **kwargs: object) -> None:
    """It is answered 503, and the answer names the database."""
    status, answer = await client.ask(method, path, **kwargs)
    assert status == 503, answer
    assert answer["error"]["details"]["system"] == "database"


async def test_runs_go_on_when_postgres_is_back(
    tmp_path: Path, own_postgres: PostgresServer
) -> None:
    studios = PostgresStudios(own_postgres)
    url = studios.url(studios.new())
    async with stand_in_at(tmp_path, step_seconds=0.3) as (_, comfyui_url):
        settings = settings_for(tmp_path, comfyui_url, DATABASE_URL=url)
        async with studio(settings) as client:
            await client.upload("style.safetensors", lora_file())
            runs = [await client.run(drawing(seed, "style"), **{"6.steps": 8}) for seed in "12345"]
            await client.until(runs[0]["id"], "running")
            own_postgres.halt()
            await refused(client, "GET", "/workflows")
            await refused(client, "POST", "/runs", json={"workflow_json": drawing()})
            await refused(client, "GET", "//ready")
            assert (await client.ask("GET", "//health"))[0] == 200
            assert own_postgres.resume()
            ended = [await client.until(run["id"]) for run in runs]
            assert [run["status"] for run in ended] == ["succeeded"] * len(runs)
            assert [run["attempts"] for run in ended] == [1] * len(runs)


async def test_a_listener_is_told_the_end_after_a_crash_of_postgres(
    tmp_path: Path, own_postgres: PostgresServer
) -> None:
    studios = PostgresStudios(own_postgres)
    url = studios.url(studios.new())
    async with stand_in_at(tmp_path, step_seconds=0.3) as (_, comfyui_url):
        settings = settings_for(tmp_path, comfyui_url, DATABASE_URL=url)
        async with studio(settings) as client:
            run = await client.run(drawing(), **{"6.steps": 8})
            await client.until(run["id"], "running")
            own_postgres.halt()
            assert own_postgres.resume()
            await client.until(run["id"])
            events = f"{client.api}/runs/{run['id']}/events"
            async with client.session.get(events) as stream:
                told = (await stream.content.read()).decode()
            ids = [int(line[4:]) for line in told.splitlines() if line.startswith("id: ")]
            assert ids == list(range(1, len(ids) + 1))
            assert "event: done" in told

"""What a sidecar that stops does with those who are connected."""

import asyncio
from pathlib import Path

import aiohttp
from studio import drawing, settings_for, stand_in_at, studio

from sidecar.http.routing import BASE
from sidecar.serving import listening


async def test_streams_of_events_end_whole_when_the_sidecar_stops(tmp_path: Path) -> None:
    async with stand_in_at(tmp_path, step_seconds=0.5) as (_, url):
        settings = settings_for(tmp_path, url)
        async with aiohttp.ClientSession() as session:
            async with listening(settings) as port:
                api = f"http://127.0.0.1:{port}{BASE}"
                body = {"workflow_json": drawing(), "input_params": {"6.steps": 100}}
                async with session.post(f"{api}/runs", json=body) as answer:
                    run = await answer.json()
                stream = await session.get(f"{api}/runs/{run['id']}/events")
                await stream.content.readuntil(b"event: status")
                rest = asyncio.create_task(stream.content.read())
            assert b"event: done" not in await rest  # and it was not cut
        async with studio(settings) as again:
            await again.ask("POST", f"/runs/{run['id']}/cancel")
            await again.until(run["id"], "cancelled")

"""What packs report that no database or folder takes, and runs that end while outputs are kept."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from studio import Studio, drawing, settings_for, studio
from waiting import until

from sidecar.comfyui.stand_in import StandIn, serving
from sidecar.comfyui.stand_in.nodes import NodeClass, Result, Work

pytestmark = pytest.mark.usefixtures("each_database")

SHOWN: dict[str, dict[str, Any]] = {
    "no number": {"loss": [float("nan"), float("inf")]},
    "half a pair": {"text": ["a\ud800b"]},
    "above": {"images": [{"filename": "../x.png", "subfolder": "", "type": "output"}]},
    "elsewhere": {"images": [{"filename": "x.png", "subfolder": "/etc", "type": "output"}]},
    "nameless": {"images": [{"filename": "", "subfolder": "", "type": "output"}]},
    "two lines": {"images": [{"filename": "a\nb.png", "subfolder": "", "type": "output"}]},
    "deleted": {"images": [{"filename": "a.png", "subfolder": "x\x7f", "type": "output"}]},
    "no name": {"text": ["a\0b"], "more": ["\\u0000"]},
}


async def _show(_work: Work, what: str) -> Result:
    return Result(ui=SHOWN[what])


SHOW = NodeClass(
    "Show", lambda _folders: {"required": {"what": ("STRING", {})}}, _show, output_node=True
)


@pytest.fixture
async def studio_with_show(tmp_path: Path) -> AsyncIterator[Studio]:
    """A studio whose ComfyUI has a node that shows what it is told to."""
    stand_in = StandIn(tmp_path / "comfyui", tmp_path / "loras", extra_nodes=[SHOW])
    async with serving(stand_in) as url, studio(settings_for(tmp_path, url)) as client:
        yield client


def showing(what: str) -> dict[str, Any]:
    return drawing() | {"9": {"class_type": "Show", "inputs": {"what": what}}}


@pytest.mark.parametrize("what", ["no number", "half a pair", "no name"])
async def test_what_no_database_takes_costs_a_run_nothing_else(
    studio_with_show: Studio, what: str
) -> None:
    run = await studio_with_show.until((await studio_with_show.run(showing(what)))["id"])
    assert run["status"] == "succeeded", run
    assert (await studio_with_show.picture(run)).startswith(b"\x89PNG")


@pytest.mark.parametrize("what", ["above", "elsewhere", "nameless"])
async def test_a_file_that_comfyui_does_not_serve_is_named_at_once_and_the_others_are_kept(
    studio_with_show: Studio, what: str
) -> None:
    run = await studio_with_show.until((await studio_with_show.run(showing(what)))["id"])
    assert (run["status"], run["error"]["code"]) == ("failed", "output_missing")
    assert run["error"]["node_id"] == "9"
    assert (await studio_with_show.picture(run)).startswith(b"\x89PNG")


@pytest.mark.parametrize("what", ["two lines", "deleted"])
async def test_a_name_with_which_comfyui_hangs_up_is_never_asked_for_and_the_others_are_kept(
    studio_with_show: Studio, what: str
) -> None:
    run = await studio_with_show.until((await studio_with_show.run(showing(what)))["id"])
    assert (run["status"], run["attempts"]) == ("failed", 1)
    assert (run["error"]["code"], run["error"]["node_id"]) == ("output_unreadable", "9")
    assert run["error"]["details"]["filename"].isprintable()
    assert (await studio_with_show.picture(run)).startswith(b"\x89PNG")


async def test_a_run_that_is_cancelled_and_deleted_while_outputs_are_kept_leaves_none(
    studio: Studio, stand_in: StandIn, tmp_path: Path
) -> None:
    run = await _cancelled_while_kept(studio, stand_in)
    assert (await studio.ask("DELETE", f"/runs/{run['id']}"))[0] == 204
    await asyncio.sleep(1.0)
    kept = (tmp_path / "data" / "blobs").rglob("*")
    assert [file.name for file in kept if file.is_file()] == []


async def test_nothing_is_told_of_a_run_after_its_end(studio: Studio, stand_in: StandIn) -> None:
    run = await _cancelled_while_kept(studio, stand_in)
    await asyncio.sleep(1.0)
    async with studio.session.get(f"{studio.api}/runs/{run['id']}/events") as response:
        told = [line for line in (await response.text()).splitlines() if line.startswith("event")]
    assert told[-2:] == ["event: status", "event: done"]
    assert "event: output" not in told


async def _cancelled_while_kept(studio: Studio, stand_in: StandIn) -> dict[str, Any]:
    stand_in.hold()
    run = await studio.run(drawing())
    await studio.until(run["id"], "running")
    stand_in.delay_seconds = 0.5
    stand_in.release()

    async def is_fetched() -> bool:
        return any(request.path == "/view" for request in stand_in.requests)

    await until(is_fetched)
    assert (await studio.ask("POST", f"/runs/{run['id']}/cancel"))[0] == 200
    return run

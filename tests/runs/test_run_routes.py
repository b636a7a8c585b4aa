"""Runs over HTTP: bad input, pages, downloads."""

from typing import Any
from uuid import uuid4

import pytest
from studio import Studio, drawing, lora_file

pytestmark = pytest.mark.usefixtures("each_database")

FOREIGN = "user-11111111-1111-4111-8111-111111111111"


@pytest.mark.parametrize(
    ("lora", "status", "code"),
    [
        ("../x", 422, "invalid_lora_name"),
        ("/etc/passwd", 422, "invalid_lora_name"),
        ("C:\\x.safetensors", 422, "invalid_lora_name"),
        (f"{FOREIGN}/x.safetensors", 403, "foreign_path"),
        (f"a/../{FOREIGN}\\x.safetensors", 403, "foreign_path"),
        ("", 422, "invalid_lora_name"),
        (5, 422, "invalid_lora_name"),
        ("x" * 300, 422, "invalid_lora_name"),
        ("not-there", 422, "lora_not_found"),
    ],
)
async def test_a_lora_that_cannot_be_used_is_refused_before_anything_is_queued(
    studio: Studio, lora: Any, status: int, code: str
) -> None:
    prompt = drawing(lora="style")
    prompt["2"]["inputs"]["lora_name"] = lora
    answered, refusal = await studio.ask("POST", "/runs", json={"workflow_json": prompt})
    assert (answered, refusal["error"]["code"]) == (status, code)
    assert (await studio.ask("GET", "/runs"))[1]["items"] == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "not_json"),
        (b'{"workflow_json": NaN}', "not_json"),
        (b'{"workflow_json": {}, "webhook": 1}', "invalid_body"),
        (b"{}", "invalid_body"),
        (b"[]", "invalid_body"),
        (b'{"workflow_json": {"nodes": [], "links": []}}', "ui_graph"),
        (b'{"workflow_json": {"1": {"class_type": "X"}}}', "invalid_prompt"),
        (b'{"workflow_json": ' + b"[" * 5000 + b"]" * 5000 + b"}", "too_deep"),
    ],
)
async def test_a_body_that_is_no_order_is_refused_with_its_reason(
    studio: Studio, body: bytes, code: str
) -> None:
    status, refusal = await studio.ask("POST", "/runs", data=body)
    assert (status in (400, 422), refusal["error"]["code"]) == (True, code)


@pytest.mark.parametrize("text", ["nan", " -Infinity", "1e999", {"__value__": "NaN"}])
async def test_a_text_that_comfyui_would_read_as_an_endless_number_is_refused(
    studio: Studio, text: Any
) -> None:
    prompt = drawing()
    prompt["6"]["inputs"]["cfg"] = text

    status, refusal = await studio.ask("POST", "/runs", json={"workflow_json": prompt})

    assert (status, refusal["error"]["code"]) == (422, "invalid_prompt")
    assert refusal["error"]["details"]["nodes"] == {"6": "cfg is not a finite number"}


async def test_a_picture_of_infinity_may_be_drawn(studio: Studio) -> None:
    prompt = drawing()
    prompt["3"]["inputs"]["text"] = "Infinity"
    await studio.run(prompt)


async def test_every_reference_that_cannot_be_resolved_is_named(studio: Studio) -> None:
    await studio.upload("there.safetensors", lora_file())
    prompt = drawing(lora="first-missing")
    prompt["9"] = {
        "class_type": "LoraLoader",
        "inputs": {**prompt["2"]["inputs"], "lora_name": "second-missing"},
    }
    prompt["10"] = {
        "class_type": "LoraLoader",
        "inputs": {**prompt["2"]["inputs"], "lora_name": "there"},
    }
    _, refusal = await studio.ask("POST", "/runs", json={"workflow_json": prompt})
    assert sorted(refusal["error"]["details"]["names"]) == ["first-missing", "second-missing"]


async def test_a_workflow_that_is_not_there_cannot_be_run(studio: Studio) -> None:
    for workflow_id in (uuid4(), "x"):
        status, _ = await studio.ask("POST", f"/workflows/{workflow_id}/run", json={})
        assert status == 404


async def test_what_is_not_there_is_not_found(studio: Studio) -> None:
    for method, path in (
        ("GET", f"/runs/{uuid4()}"),
        ("GET", "/runs/x"),
        ("GET", f"/runs/{uuid4()}/events"),
        ("GET", f"/runs/{uuid4()}/outputs/0"),
        ("POST", f"/runs/{uuid4()}/cancel"),
        ("POST", f"/runs/{uuid4()}/retry"),
        ("DELETE", f"/runs/{uuid4()}"),
    ):
        status, refusal = await studio.ask(method, path)
        assert (status, refusal["error"]["code"]) == (404, "run_not_found")


async def test_runs_come_in_pages_and_by_workflow(studio: Studio) -> None:
    workflow_id = await studio.save(drawing())
    ids = []
    for seed in range(3):
        order = {"input_params": {"seed": seed}}
        _, run = await studio.ask("POST", f"/workflows/{workflow_id}/run", json=order)
        ids.append(run["id"])
        await studio.until(run["id"])
    await studio.run(drawing(9))
    _, first = await studio.ask("GET", f"/workflows/{workflow_id}/runs", params={"limit": 2})
    params = {"limit": 2, "cursor": first["next_cursor"]}
    _, second = await studio.ask("GET", f"/workflows/{workflow_id}/runs", params=params)
    assert [run["id"] for run in first["items"] + second["items"]] == ids[::-1]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    "params",
    [
        {"limit": "0"},
        {"limit": "201"},
        {"cursor": "zzz"},
        {"status": "odd"},
        {"colour": "red"},
        {"since": "2020-01-01T00:00:00"},
        {"since": "0001-01-01T00:00:00+14:00"},
        {"since": "9999-12-31T23:59:59-14:00"},
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(
    studio: Studio, params: dict[str, str]
) -> None:
    assert (await studio.ask("GET", "/runs", params=params))[0] == 422


async def test_an_output_comes_in_ranges_and_is_not_sent_twice(studio: Studio) -> None:
    run = await studio.until((await studio.run(drawing()))["id"])
    url = studio.host + run["outputs"][0]["url"]
    whole = await studio.picture(run)
    async with studio.session.get(url, headers={"Range": "bytes=8-15"}) as part:
        assert (part.status, await part.read()) == (206, whole[8:16])
        etag = part.headers["ETag"]
    async with studio.session.get(url, headers={"If-None-Match": etag}) as same:
        assert same.status == 304
    async with studio.session.head(url) as head:
        assert int(head.headers["Content-Length"]) == len(whole) == run["outputs"][0]["bytes"]


async def test_numbers_that_no_database_holds_are_refused(studio: Studio) -> None:
    run = await studio.run(drawing())
    workflow_id = await studio.save(drawing())
    huge = 2**63

    status, _ = await studio.ask("POST", f"/workflows/{workflow_id}/run", json={"version": huge})
    assert status == 422
    status, _ = await studio.ask("GET", f"/runs/{run['id']}/events?last_event_id={huge}")
    assert status == 422


async def test_a_bad_last_event_id_is_refused(studio: Studio) -> None:
    run = await studio.run(drawing())
    status, refusal = await studio.ask(
        "GET", f"/runs/{run['id']}/events", headers={"Last-Event-ID": "-1"}
    )
    assert (status, refusal["error"]["code"]) == (422, "invalid_last_event_id")


async def test_a_workflows_runs_outlive_it(studio: Studio) -> None:
    workflow_id = await studio.save(drawing())
    _, run = await studio.ask("POST", f"/workflows/{workflow_id}/run", json={})
    await studio.until(run["id"])
    assert (await studio.ask("DELETE", f"/workflows/{workflow_id}"))[0] == 204
    _, page = await studio.ask("GET", f"/workflows/{workflow_id}/runs")
    assert [item["id"] for item in page["items"]] == [run["id"]]

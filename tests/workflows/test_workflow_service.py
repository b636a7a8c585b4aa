"""Workflows and their versions, on the real store."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from clock import FakeClock
from sample_graphs import txt2img

from sidecar.database import Database
from sidecar.database.pages import PageQuery
from sidecar.database.tables import workflow_versions
from sidecar.errors import AtelierError, ConflictError, InvalidError, NotFoundError
from sidecar.principal import LOCAL, Principal
from sidecar.workflows.graph import DeclaredInput
from sidecar.workflows.models import WorkflowOrder, WorkflowQuery, WorkflowReplacement
from sidecar.workflows.service import WorkflowService

OTHER = Principal(UUID("00000000-0000-4000-8000-0000000000ff"))


@pytest.fixture
def service(database: Database, clock: FakeClock) -> WorkflowService:
    return WorkflowService(database, clock, uuid4)


def order(name: str = "cat", **changes: Any) -> WorkflowOrder:
    return WorkflowOrder.model_validate({"name": name, "workflow_json": txt2img(), **changes})


def replacement(name: str = "cat", **changes: Any) -> WorkflowReplacement:
    return WorkflowReplacement.model_validate({"name": name, "workflow_json": txt2img(), **changes})


def graph_with_seed(seed: int) -> dict[str, Any]:
    prompt = txt2img()
    prompt["6"]["inputs"]["seed"] = seed
    return prompt


async def saved(service: WorkflowService, name: str = "cat", **changes: Any) -> UUID:
    workflow, _ = await service.add(LOCAL, order(name, **changes))
    return workflow.id


async def test_what_is_stored_comes_back_exactly_as_given(service: WorkflowService) -> None:
    odd = {
        "z": {
            "class_type": "B",
            "inputs": {"y": 2**70, "x": "é 漢 \U0001f600", "w": 1.0, "v": None},
        },
        "a": {"inputs": {}, "is_changed": ["x"], "class_type": "A", "mode": 4},
    }
    graph = {"nodes": [{"id": 2}, {"id": 1}], "links": [], "extra": {"b": 1, "a": [1e300, -0.0]}}
    inputs = [{"type": "int", "input": "y", "node": "z", "name": "p"}]
    workflow_id = await saved(service, workflow_json=odd, graph=graph, inputs=inputs)
    _, stored = await service.get(LOCAL, workflow_id, None)
    assert json.dumps(stored.body.workflow_json) == json.dumps(odd)
    assert json.dumps(stored.body.graph) == json.dumps(graph)
    assert stored.body.inputs == inputs


async def test_a_prompt_of_the_wrong_shape_is_not_stored(service: WorkflowService) -> None:
    with pytest.raises(InvalidError) as caught:
        await service.add(LOCAL, order(workflow_json={"nodes": [], "links": []}))
    assert caught.value.code == "ui_graph"
    assert (await service.page(LOCAL, WorkflowQuery())).items == []


async def test_an_input_that_is_not_in_the_prompt_is_refused(service: WorkflowService) -> None:
    declared = {"name": "p", "node": "99", "input": "x", "type": "int"}
    with pytest.raises(InvalidError) as caught:
        await service.add(LOCAL, order(inputs=[declared]))
    assert caught.value.code == "invalid_inputs"


@pytest.mark.parametrize("field", ["workflow_json", "graph"])
async def test_a_number_that_json_cannot_hold_is_refused(
    service: WorkflowService, field: str
) -> None:
    infinite = {**txt2img(), "1": {"class_type": "A", "inputs": {}, "mode": float("inf")}}
    with pytest.raises(InvalidError) as caught:
        await service.add(LOCAL, order(**{field: infinite}))
    assert set(caught.value.details["fields"]) == {field}


async def test_a_name_is_taken_until_its_workflow_is_deleted(service: WorkflowService) -> None:
    first = await saved(service)
    with pytest.raises(ConflictError) as caught:
        await saved(service)
    assert caught.value.code == "name_taken"
    await service.delete(LOCAL, first)
    await saved(service)


async def test_two_people_may_use_one_name(service: WorkflowService) -> None:
    await saved(service)
    await service.add(OTHER, order())


async def test_renaming_to_a_taken_name_changes_nothing(service: WorkflowService) -> None:
    await saved(service, "cat")
    dog = await saved(service, "dog")
    with pytest.raises(ConflictError) as caught:
        await service.replace(LOCAL, dog, replacement("cat", workflow_json=graph_with_seed(2)))
    assert caught.value.code == "name_taken"
    workflow, _ = await service.get(LOCAL, dog, None)
    assert (workflow.name, workflow.head_version) == ("dog", 1)


async def test_renaming_makes_no_version(service: WorkflowService, clock: FakeClock) -> None:
    workflow_id = await saved(service, tags=["a"], description="x")
    clock.tick()
    workflow, stored = await service.replace(LOCAL, workflow_id, replacement("kitten"))
    assert (workflow.name, workflow.tags, workflow.description) == ("kitten", [], "")
    assert (workflow.head_version, stored.summary.version) == (1, 1)
    assert workflow.updated_at > workflow.created_at


@pytest.mark.parametrize(
    "change",
    [
        {"workflow_json": graph_with_seed(2)},
        {"graph": {"nodes": []}},
        {"inputs": [{"name": "p", "node": "6", "input": "seed", "type": "int"}]},
    ],
)
async def test_a_changed_body_makes_a_version(
    service: WorkflowService, change: dict[str, Any]
) -> None:
    workflow_id = await saved(service)
    workflow, stored = await service.replace(LOCAL, workflow_id, replacement(**change))
    assert (workflow.head_version, stored.summary.version) == (2, 2)
    _, old = await service.get(LOCAL, workflow_id, 1)
    assert old.body.workflow_json == txt2img()
    assert old.summary.sha256 != stored.summary.sha256


async def test_the_order_of_keys_is_no_change(service: WorkflowService) -> None:
    workflow_id = await saved(service)
    turned = dict(reversed(txt2img().items()))
    workflow, _ = await service.replace(LOCAL, workflow_id, replacement(workflow_json=turned))
    assert workflow.head_version == 1


async def test_a_save_from_an_older_version_is_refused(service: WorkflowService) -> None:
    workflow_id = await saved(service)
    newer = replacement(workflow_json=graph_with_seed(2), base_version=1)
    await service.replace(LOCAL, workflow_id, newer)
    with pytest.raises(ConflictError) as caught:
        await service.replace(
            LOCAL, workflow_id, replacement(workflow_json=graph_with_seed(3), base_version=1)
        )
    assert caught.value.code == "stale_version"
    assert caught.value.details == {"base_version": 1, "head_version": 2}
    _, head = await service.get(LOCAL, workflow_id, None)
    assert head.body.workflow_json == graph_with_seed(2)


async def test_of_two_saves_at_once_exactly_one_wins(service: WorkflowService) -> None:
    workflow_id = await saved(service)
    results = await asyncio.gather(
        *(
            service.replace(
                LOCAL,
                workflow_id,
                replacement(workflow_json=graph_with_seed(seed), base_version=1),
            )
            for seed in range(2, 6)
        ),
        return_exceptions=True,
    )
    refused = [result for result in results if isinstance(result, ConflictError)]
    assert [error.code for error in refused] == ["stale_version"] * 3
    assert len(results) - len(refused) == 1
    page = await service.versions(LOCAL, workflow_id, PageQuery())
    assert [summary.version for summary in page.items] == [2, 1]


async def test_saves_at_once_without_a_base_are_all_kept(service: WorkflowService) -> None:
    workflow_id = await saved(service)
    await asyncio.gather(
        *(
            service.replace(LOCAL, workflow_id, replacement(workflow_json=graph_with_seed(seed)))
            for seed in range(2, 6)
        )
    )
    seeds = set()
    for version in range(1, 6):
        _, stored = await service.get(LOCAL, workflow_id, version)
        seeds.add(stored.body.workflow_json["6"]["inputs"]["seed"])
    assert seeds == {1, 2, 3, 4, 5}


async def test_restoring_makes_a_new_head_of_an_old_version(service: WorkflowService) -> None:
    workflow_id = await saved(service)
    await service.replace(LOCAL, workflow_id, replacement(workflow_json=graph_with_seed(2)))
    workflow, head = await service.restore(LOCAL, workflow_id, 1)
    assert (workflow.head_version, head.summary.version) == (3, 3)
    assert head.body.workflow_json == txt2img()
    assert head.summary.note == "Restored version 1."
    _, first = await service.get(LOCAL, workflow_id, 1)
    assert head.summary.sha256 == first.summary.sha256


async def test_restoring_what_the_head_holds_makes_no_version(service: WorkflowService) -> None:
    workflow_id = await saved(service)
    workflow, head = await service.restore(LOCAL, workflow_id, 1)
    assert (workflow.head_version, head.summary.version) == (1, 1)


async def test_a_version_that_was_never_saved_is_not_found(service: WorkflowService) -> None:
    workflow_id = await saved(service)
    for attempt in (
        service.get(LOCAL, workflow_id, 2),
        service.restore(LOCAL, workflow_id, 2),
        service.for_run(LOCAL, workflow_id, 2),
    ):
        with pytest.raises(NotFoundError) as caught:
            await attempt
        assert caught.value.code == "workflow_version_not_found"


async def test_a_deleted_workflow_is_not_there(service: WorkflowService) -> None:
    workflow_id = await saved(service)
    await service.delete(LOCAL, workflow_id)
    assert (await service.page(LOCAL, WorkflowQuery())).items == []
    for attempt in everything_one_can_do(service, LOCAL, workflow_id):
        with pytest.raises(NotFoundError):
            await attempt()


async def test_a_deleted_workflow_keeps_its_versions(
    service: WorkflowService, database: Database
) -> None:
    workflow_id = await saved(service)
    await service.delete(LOCAL, workflow_id)
    async with database.transaction(LOCAL, read_only=True) as tx:
        kept = await tx.execute(
            sa.select(workflow_versions.c.version).where(
                workflow_versions.c.workflow_id == workflow_id
            )
        )
        assert kept.scalars().all() == [1]


async def test_a_run_gets_only_what_comfyui_may_see(service: WorkflowService) -> None:
    stored = txt2img()
    stored["6"]["is_changed"] = ["stale"]
    declared = {"name": "p", "node": "6", "input": "seed", "type": "int", "default": 4}
    workflow_id = await saved(service, workflow_json=stored, inputs=[declared], graph={"nodes": []})
    version = await service.for_run(LOCAL, workflow_id, None)
    assert version.prompt == txt2img()
    assert version.inputs == (DeclaredInput.model_validate(declared),)
    assert (version.workflow_id, version.version, version.name, version.graph) == (
        workflow_id,
        1,
        "cat",
        {"nodes": []},
    )


async def test_a_run_may_ask_for_an_older_version(service: WorkflowService) -> None:
    workflow_id = await saved(service)
    await service.replace(LOCAL, workflow_id, replacement(workflow_json=graph_with_seed(2)))
    old = await service.for_run(LOCAL, workflow_id, 1)
    head = await service.for_run(LOCAL, workflow_id, None)
    assert (old.prompt["6"]["inputs"]["seed"], head.prompt["6"]["inputs"]["seed"]) == (1, 2)


async def names(service: WorkflowService, **asked: Any) -> list[str]:
    page = await service.page(LOCAL, WorkflowQuery.model_validate(asked))
    return [workflow.name for workflow in page.items]


async def test_a_list_is_newest_first_and_pages_meet(
    service: WorkflowService, clock: FakeClock
) -> None:
    for number in range(5):
        await saved(service, f"n{number}")
        clock.tick(number % 2)
    seen: list[str] = []
    cursor = None
    while True:
        page = await service.page(LOCAL, WorkflowQuery(limit=2, cursor=cursor))
        seen += [workflow.name for workflow in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert len(seen) == 5
    assert set(seen[:1]) == {"n4"}
    assert set(seen) == {f"n{number}" for number in range(5)}


async def test_a_search_looks_in_names_and_descriptions(service: WorkflowService) -> None:
    await saved(service, "Portrait 100%")
    await saved(service, "two", description="a PORTRAIT of É")
    await saved(service, "landscape_x")
    assert set(await names(service, q="portrait")) == {"Portrait 100%", "two"}
    assert await names(service, q="É") == ["two"]
    assert await names(service, q="0%") == ["Portrait 100%"]
    assert await names(service, q="%") == ["Portrait 100%"]
    assert await names(service, q="_") == ["landscape_x"]


async def test_a_tag_is_matched_whole(service: WorkflowService) -> None:
    await saved(service, "one", tags=["art", 'with "quotes"', "日本"])
    await saved(service, "two", tags=["artful"])
    assert await names(service, tag="art") == ["one"]
    assert await names(service, tag='with "quotes"') == ["one"]
    assert await names(service, tag="日本") == ["one"]
    assert await names(service, tag="quotes") == []


async def test_a_tag_given_twice_is_kept_once(service: WorkflowService) -> None:
    workflow, _ = await service.add(LOCAL, order(tags=["b", "a", " b "]))
    assert workflow.tags == ["b", "a"]


async def test_versions_are_listed_in_pages_newest_first(service: WorkflowService) -> None:
    workflow_id = await saved(service)
    for seed in range(2, 6):
        await service.replace(LOCAL, workflow_id, replacement(workflow_json=graph_with_seed(seed)))
    first = await service.versions(LOCAL, workflow_id, PageQuery(limit=3))
    assert [summary.version for summary in first.items] == [5, 4, 3]
    rest = await service.versions(LOCAL, workflow_id, PageQuery(limit=3, cursor=first.next_cursor))
    assert ([summary.version for summary in rest.items], rest.next_cursor) == ([2, 1], None)


@pytest.mark.parametrize("cursor", ["x", "-1", "99999999999", "\u0661"])
async def test_a_cursor_of_ones_own_making_is_refused(
    service: WorkflowService, cursor: str
) -> None:
    workflow_id = await saved(service)
    with pytest.raises(InvalidError) as caught:
        await service.versions(LOCAL, workflow_id, PageQuery(cursor=cursor))
    assert caught.value.code == "invalid_cursor"


async def test_a_list_never_reads_the_versions(service: WorkflowService) -> None:
    await saved(service)
    statements: list[str] = []

    def note(_c: Any, _cur: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    await service.page(LOCAL, WorkflowQuery(q="c", tag="x"))
    sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert any("comfyui_workflows" in statement for statement in statements)
    assert not any("comfyui_workflow_versions" in statement for statement in statements)


def everything_one_can_do(
    service: WorkflowService, principal: Principal, workflow_id: UUID
) -> list[Callable[[], Awaitable[Any]]]:
    """Each use-case that names a workflow."""
    return [
        lambda: service.get(principal, workflow_id, None),
        lambda: service.get(principal, workflow_id, 1),
        lambda: service.replace(principal, workflow_id, replacement("stolen")),
        lambda: service.replace(principal, workflow_id, replacement(base_version=9)),
        lambda: service.restore(principal, workflow_id, 1),
        lambda: service.delete(principal, workflow_id),
        lambda: service.versions(principal, workflow_id, PageQuery()),
        lambda: service.for_run(principal, workflow_id, None),
    ]


async def test_someone_elses_workflow_is_refused_like_one_that_never_was(
    service: WorkflowService,
) -> None:
    mine = await saved(service)
    answers: list[list[tuple[str, str, dict[str, Any]]]] = []
    for workflow_id in (mine, uuid4()):
        refusals = []
        for attempt in everything_one_can_do(service, OTHER, workflow_id):
            with pytest.raises(AtelierError) as caught:
                await attempt()
            refusals.append((caught.value.code, caught.value.message, caught.value.details))
        answers.append(refusals)
    assert answers[0] == answers[1]
    assert {code for code, _, _ in answers[0]} == {"workflow_not_found"}
    workflow, head = await service.get(LOCAL, mine, None)
    assert (workflow.name, head.summary.version) == ("cat", 1)


async def test_a_list_holds_only_ones_own(service: WorkflowService) -> None:
    await saved(service, tags=["t"])
    for asked in ({}, {"q": "cat"}, {"tag": "t"}):
        assert (await service.page(OTHER, WorkflowQuery.model_validate(asked))).items == []

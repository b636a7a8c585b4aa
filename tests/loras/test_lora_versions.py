"""Versions of a LoRA: named, deleted, damaged, and what they are used by."""

from uuid import UUID, uuid4

import pytest
from lora_library import ANN, BEN, Library
from safetensors_files import lora_bytes
from some_runs import some_run

from sidecar.errors import ConflictError, InvalidError, NotFoundError
from sidecar.loras.models import Lora, LoraPin, VersionState
from sidecar.loras.names import LoraName
from sidecar.loras.store import LoraStore
from sidecar.runs.models import Status
from sidecar.runs.store import RunStore
from sidecar.workflows.models import WorkflowOrder
from sidecar.workflows.service import WorkflowService

A, B, C = (lora_bytes(seed) for seed in range(3))


async def three(library: Library) -> Lora:
    """A LoRA with three versions."""
    for data in (A, B, C):
        detail, _ = await library.upload(data)
    return detail.lora


async def versions(library: Library, lora: Lora) -> list[int]:
    return [each.version for each in (await library.service.get(ANN, lora.id)).versions]


async def run_with(
    library: Library, pin: LoraPin, status: Status, workflow_id: UUID | None = None
) -> None:
    library.clock.tick()
    run = some_run(
        library.clock.now(), ANN.id, status=status, loras=(pin,), workflow_id=workflow_id
    )
    async with library.database.transaction(ANN) as tx:
        await RunStore(tx).add(run)


@pytest.mark.parametrize("written", ["style@2", "Style@2.safetensors", "style.safetensors@2"])
async def test_a_number_behind_the_name_picks_a_version(library: Library, written: str) -> None:
    lora = await three(library)
    pin = await library.pinned(written)
    second = (await library.service.get(ANN, lora.id)).versions[1]
    assert (pin.version, pin.sha256) == (2, second.sha256)
    assert pin.path.name == second.filename
    assert (await library.pinned("style")).version == 3


@pytest.mark.parametrize("written", ["style@4", "style@0", "style@9876543210", "other@1"])
async def test_a_version_that_is_not_there_is_named(library: Library, written: str) -> None:
    await three(library)
    with pytest.raises(InvalidError) as caught:
        await library.resolver.pin(ANN, ["style", written])
    assert caught.value.code == "lora_not_found"
    assert caught.value.details == {"names": [written]}


async def test_a_name_that_ends_like_a_version_means_itself(library: Library) -> None:
    await three(library)
    old, _ = await library.upload(A, "old.safetensors")
    async with library.database.transaction(ANN) as tx:  # from before such names were refused
        name = LoraName("style@2", "style@2")
        await LoraStore(tx).edit(old.lora.id, library.clock.now(), name, None, None)
    assert (await library.pinned("style@2")).lora_id == old.lora.id
    assert (await library.pinned("style@1")).lora_id != old.lora.id


async def test_a_file_of_comfyui_s_that_ends_like_a_version_can_be_named(library: Library) -> None:
    await three(library)
    library.share("style@9.safetensors")
    library.share("style@2.safetensors")
    found = await library.resolver.pin(ANN, ["style@9", "style@2.safetensors"])
    assert found["style@9"] == "style@9.safetensors"
    pin = found["style@2.safetensors"]
    assert isinstance(pin, LoraPin)
    assert pin.version == 2


async def test_the_number_of_a_deleted_version_is_not_given_again(library: Library) -> None:
    lora = await three(library)
    await library.service.restore(ANN, lora.id, 1)
    await library.service.delete_version(ANN, lora.id, 3)
    again, created = await library.upload(C)
    assert created
    assert again.lora.head.version == 4
    assert await versions(library, lora) == [4, 2, 1]
    with pytest.raises(InvalidError):
        await library.resolver.pin(ANN, ["style@3"])


async def test_deleting_a_version_removes_its_bytes_and_its_file(library: Library) -> None:
    lora = await three(library)
    path = await library.sync.ensure(await library.pinned("style@2"))
    kept = await library.sync.ensure(await library.pinned("style@1"))
    await library.service.delete_version(ANN, lora.id, 2)
    assert await versions(library, lora) == [3, 1]
    assert len(await library.keys()) == 2
    assert not path.exists()
    assert kept.exists()
    with pytest.raises(NotFoundError):
        await library.service.delete_version(ANN, lora.id, 2)


async def test_the_version_that_the_name_stands_for_is_not_deleted(library: Library) -> None:
    lora = await three(library)
    with pytest.raises(ConflictError) as caught:
        await library.service.delete_version(ANN, lora.id, 3)
    assert caught.value.code == "version_is_head"
    assert len(await library.keys()) == 3


async def test_a_version_that_a_run_needs_is_not_deleted_and_the_others_are(
    library: Library,
) -> None:
    lora = await three(library)
    await run_with(library, await library.pinned("style@1"), Status.QUEUED)
    with pytest.raises(ConflictError) as caught:
        await library.service.delete_version(ANN, lora.id, 1)
    assert caught.value.code == "lora_in_use"
    await library.service.delete_version(ANN, lora.id, 2)
    assert await versions(library, lora) == [3, 1]


async def test_what_a_version_is_used_by(library: Library) -> None:
    lora = await three(library)
    first, head = await library.pinned("style@1"), await library.pinned()
    flows = WorkflowService(library.database, library.clock, uuid4)
    graph = {"1": {"class_type": "A", "inputs": {}}}
    used, gone = [
        (await flows.add(ANN, WorkflowOrder(name=name, workflow_json=graph)))[0]
        for name in ("portrait", "gone")
    ]
    await flows.delete(ANN, gone.id)
    await run_with(library, first, Status.SUCCEEDED, used.id)
    await run_with(library, first, Status.FAILED, gone.id)
    await run_with(library, head, Status.QUEUED, used.id)
    await run_with(library, first, Status.SUCCEEDED, used.id)
    at = library.clock.now()
    await run_with(library, head, Status.SUCCEEDED)

    uses = await library.service.uses(ANN, lora.id, 1)
    assert (uses.runs, uses.unfinished_runs, uses.last_used_at) == (3, 0, at)
    assert [(each.id, each.name, each.runs) for each in uses.workflows] == [
        (used.id, "portrait", 2)
    ]
    assert uses.workflows[0].last_used_at == at
    assert not uses.is_needed
    newest = await library.service.uses(ANN, lora.id, 3)
    assert (newest.runs, newest.unfinished_runs, newest.is_needed) == (2, 1, True)
    unused = await library.service.uses(ANN, lora.id, 2)
    assert (unused.runs, unused.last_used_at, list(unused.workflows)) == (0, None, [])


async def test_uses_of_what_is_not_one_s_own_are_not_told(library: Library) -> None:
    lora = await three(library)
    for who, number in ((BEN, 1), (ANN, 4)):
        with pytest.raises(NotFoundError):
            await library.service.uses(who, lora.id, number)


async def test_a_damaged_version_is_refused_until_it_is_uploaded_again(library: Library) -> None:
    await three(library)
    detail, _ = await library.upload(B)
    async with library.database.transaction(ANN) as tx:
        head = detail.lora.head
        await LoraStore(tx).set_bytes(head, head.object_key, VersionState.DAMAGED)
    path = str(detail.lora.pin(ANN.folder).path)
    with pytest.raises(InvalidError) as caught:
        await library.resolver.pin(ANN, ["style", "style@2", "style@1", path])
    assert caught.value.code == "lora_damaged"
    assert caught.value.details == {"names": ["style", "style@2", path]}
    await library.pinned("style@3")
    _, created = await library.upload(B)
    assert not created
    assert (await library.pinned("style@2")).sha256 == detail.lora.head.sha256
    assert len(await library.keys()) == 3

"""Who may keep a LoRA, how many, and how many bytes."""

import asyncio
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from lora_library import ANN, BEN, Library, form
from safetensors_files import lora_bytes

from sidecar.accounts.models import Quotas
from sidecar.database.tables import uploads
from sidecar.errors import StorageFullError, TooLargeError, UnauthenticatedError
from sidecar.loras.uploads import LoraFields, UploadParts
from sidecar.loras.views import LoraQuery

A, B = lora_bytes(0), lora_bytes(1)


async def test_an_upload_over_the_account_s_quota_is_refused_and_nothing_is_kept(
    library: Library,
) -> None:
    await library.upload(A, "first")
    library.quotas[ANN.id] = Quotas(10, len(A) + len(B) - 1)
    with pytest.raises(StorageFullError) as caught:
        await library.upload(B, "second")
    assert caught.value.code == "quota_exceeded"
    assert caught.value.details == {
        "needed_bytes": len(A) + len(B),
        "max_bytes": len(A) + len(B) - 1,
    }
    assert len(await library.keys()) == 1
    assert [each.name for each in (await library.service.page(ANN, LoraQuery())).items] == ["first"]
    await library.upload(A, "first")  # what is there already takes no more room
    await library.upload(B, "second", who=BEN)
    library.quotas[ANN.id] = Quotas(10, len(A) + len(B))
    await library.upload(B, "second")


async def test_one_lora_more_than_the_account_s_quota_is_refused_and_a_version_is_not(
    library: Library,
) -> None:
    library.quotas[ANN.id] = Quotas(10, None, max_loras=1)
    await library.upload(A, "first")
    with pytest.raises(StorageFullError) as caught:
        await library.upload(B, "second")
    assert caught.value.code == "quota_exceeded"
    assert caught.value.details == {"needed_loras": 2, "max_loras": 1}
    detail, _ = await library.upload(B, "first")
    assert len(detail.versions) == 2
    assert len(await library.keys()) == 2


async def test_a_file_over_the_account_s_own_limit_is_refused(library: Library) -> None:
    library.quotas[ANN.id] = Quotas(10, None, max_lora_bytes=len(A) - 1)
    with pytest.raises(TooLargeError) as caught:
        await library.upload(A)
    assert caught.value.details == {"max_bytes": len(A) - 1}
    assert await library.keys() == set()
    await library.upload(A, who=BEN)


async def test_two_uploads_at_once_do_not_pass_the_quota_together(library: Library) -> None:
    library.quotas[ANN.id] = Quotas(10, len(A) + len(B) - 1, max_loras=5)
    results = await asyncio.gather(
        library.upload(A, "first"), library.upload(B, "second"), return_exceptions=True
    )
    (refused,) = [each for each in results if isinstance(each, BaseException)]
    assert isinstance(refused, StorageFullError)
    assert len(await library.keys()) == 1


async def test_two_new_names_at_once_do_not_pass_the_quota_together(library: Library) -> None:
    library.quotas[ANN.id] = Quotas(10, None, max_loras=1)
    results = await asyncio.gather(
        library.upload(A, "first"), library.upload(B, "second"), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in results) == ["StorageFullError", "tuple"]
    assert len((await library.service.page(ANN, LoraQuery())).items) == 1


async def arriving(library: Library, length: int, state: str) -> UUID:
    """A resumable upload of Ann's."""
    upload_id, now = uuid4(), library.clock.now()
    row = {"id": upload_id, "owner_id": ANN.id, "worker_id": "w", "length": length, "metadata": {}}
    async with library.database.transaction(ANN) as tx:
        times = {"created_at": now, "expires_at": now}
        await tx.execute(uploads.insert().values({**row, "state": state, **times}))
    return upload_id


@pytest.mark.parametrize("state", ["receiving", "finishing"])
async def test_an_unfinished_upload_holds_its_place_in_the_quota_once(
    library: Library, tmp_path: Path, state: str
) -> None:
    library.quotas[ANN.id] = Quotas(10, len(A) + 10)
    upload_id = await arriving(library, len(A), state)
    await arriving(library, len(A), "failed")
    with pytest.raises(StorageFullError):
        await library.upload(B, "second")
    with pytest.raises(StorageFullError):
        await library.intake.refuse_unaffordable(ANN, 11)
    await library.intake.refuse_unaffordable(ANN, 10)
    await library.intake.refuse_unaffordable(BEN, 11)
    file = tmp_path / "arrived"
    file.write_bytes(A)
    taken = await library.intake.adopt(ANN, file, LoraFields(name="first"), upload_id=upload_id)
    assert taken.created


@pytest.mark.parametrize("as_version", [False, True])
async def test_what_somebody_sends_who_is_shut_out_meanwhile_is_not_kept(
    library: Library, as_version: bool
) -> None:
    first, _ = await library.upload(A, "first")

    async def parts() -> UploadParts:
        async for part in form(B, "second", {}):
            yield part
        library.gone.add(ANN.id)

    if as_version:
        sending = library.intake.add_version(ANN, first.lora.id, parts())
    else:
        sending = library.intake.add(ANN, parts())
    with pytest.raises(UnauthenticatedError) as caught:
        await sending
    assert caught.value.code == "session_ended"
    assert len(await library.keys()) == 1
    library.gone.clear()
    assert (await library.service.page(ANN, LoraQuery())).items == [first.lora]

"""Who may keep a LoRA, and how many bytes."""

import pytest
from lora_library import ANN, BEN, Library, form
from safetensors_files import lora_bytes

from sidecar.accounts.models import Quotas
from sidecar.errors import StorageFullError, UnauthenticatedError
from sidecar.loras.models import LoraQuery
from sidecar.loras.uploads import UploadParts

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
        sending = library.service.add_version(ANN, first.lora.id, parts())
    else:
        sending = library.service.add(ANN, parts())
    with pytest.raises(UnauthenticatedError) as caught:
        await sending
    assert caught.value.code == "session_ended"
    assert len(await library.keys()) == 1
    library.gone.clear()
    assert (await library.service.page(ANN, LoraQuery())).items == [first.lora]

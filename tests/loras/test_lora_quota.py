"""How many LoRA bytes one account may keep."""

import pytest
from lora_library import ANN, BEN, Library
from safetensors_files import lora_bytes

from sidecar.accounts.models import Quotas
from sidecar.errors import StorageFullError
from sidecar.loras.models import LoraQuery

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

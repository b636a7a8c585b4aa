"""The rules of the LoRA library."""

import asyncio
import contextlib
import hashlib
from dataclasses import replace

import pytest
from lora_library import ANN, BEN, MAX_BYTES, Library, form
from safetensors_files import HOSTILE, lora_bytes
from some_runs import some_run

from sidecar.database.pages import Page
from sidecar.errors import (
    AtelierError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
    UnsupportedError,
)
from sidecar.loras.models import Lora, LoraPin
from sidecar.loras.names import filename
from sidecar.loras.store import LoraStore
from sidecar.loras.views import LoraChange, LoraQuery
from sidecar.runs.models import Status
from sidecar.runs.store import RunStore

A, B, C = (lora_bytes(seed) for seed in range(3))


async def page(library: Library, **asked: object) -> Page[Lora]:
    return await library.service.page(ANN, LoraQuery.model_validate(asked))


async def names(library: Library, **asked: object) -> list[str]:
    return [lora.name for lora in (await page(library, **asked)).items]


async def test_an_upload_becomes_version_one(library: Library) -> None:
    detail, created = await library.upload(
        lora_bytes(rank=8, metadata={"ss_base_model_version": "sd_v1"}),
        "My Style.safetensors",
        description="soft",
        tags='["a", "b"]',
    )
    lora = detail.lora
    assert created
    assert (lora.name, lora.stem, lora.description) == ("My Style", "my style", "soft")
    assert list(lora.tags) == ["a", "b"]
    assert (lora.head.version, lora.head.metadata.rank) == (1, 8)
    assert lora.head.metadata.base_model == "sd_v1"
    assert lora.head.filename == f"my style.{lora.head.sha256[:8]}.safetensors"
    assert str(lora.pin(ANN.folder).path) == f"user-{ANN.id}/{lora.head.filename}"
    assert lora.head.object_key.startswith(f"user-{ANN.id}/loras/")
    assert "style" not in lora.head.object_key
    assert await library.keys() == {lora.head.object_key}


async def test_other_bytes_under_the_name_are_the_next_version_and_the_head(
    library: Library,
) -> None:
    first, _ = await library.upload(A)
    second, created = await library.upload(B, "STYLE.safetensors")
    assert created
    assert second.lora.id == first.lora.id
    assert [version.version for version in second.versions] == [2, 1]
    assert second.lora.head.version == 2
    assert len(await library.keys()) == 2


async def test_the_same_bytes_answer_the_version_that_has_them(library: Library) -> None:
    first, _ = await library.upload(A)
    again, created = await library.upload(A)
    assert not created
    assert again.lora.head == first.lora.head
    assert len(again.versions) == 1


async def test_the_bytes_of_an_older_version_make_it_the_head_again(library: Library) -> None:
    await library.upload(A)
    await library.upload(B)
    again, created = await library.upload(A)
    assert not created
    assert again.lora.head.version == 1
    assert len(again.versions) == 2


async def test_the_same_file_twice_at_once_is_one_version(library: Library) -> None:
    answers = await asyncio.gather(*(library.upload(A) for _ in range(4)))
    assert sorted(created for _, created in answers) == [False, False, False, True]
    assert {detail.lora.id for detail, _ in answers} == {answers[0][0].lora.id}
    assert len(answers[0][0].versions) == 1
    assert len(await library.keys()) == 1


async def test_different_files_at_once_are_versions_of_one_lora(library: Library) -> None:
    await asyncio.gather(*(library.upload(data) for data in (A, B, C)))
    (lora,) = (await page(library)).items
    detail = await library.service.get(ANN, lora.id)
    assert {version.version for version in detail.versions} == {1, 2, 3}


async def test_uploading_again_repairs_a_lost_blob(library: Library) -> None:
    detail, _ = await library.upload(A)
    await library.blobs.delete(detail.lora.head.object_key)
    again, created = await library.upload(A)
    assert not created
    assert again.lora.head.object_key != detail.lora.head.object_key
    assert await library.keys() == {again.lora.head.object_key}
    path = await library.sync.ensure(await library.pinned())
    assert path.read_bytes() == A


@pytest.mark.parametrize("name", ["pickle", "truncated data", "trailing bytes", "empty file"])
async def test_a_refused_file_leaves_nothing(library: Library, name: str) -> None:
    with pytest.raises(UnsupportedError):
        await library.upload(HOSTILE[name])
    assert await names(library) == []
    assert await library.keys() == set()


async def test_a_file_over_the_limit_is_refused(library: Library) -> None:
    with pytest.raises(TooLargeError):
        await library.upload(lora_bytes(size=MAX_BYTES))


async def test_the_name_asked_for_beats_the_file_s_and_that_the_trainer_s(
    library: Library,
) -> None:
    trained = lora_bytes(metadata={"ss_output_name": "trained"})
    asked, _ = await library.upload(trained, "file.safetensors", name="Asked")
    file, _ = await library.upload(trained, "file.safetensors")
    own, _ = await library.upload(trained, None)
    assert [each.lora.name for each in (asked, file, own)] == ["Asked", "file", "trained"]


@pytest.mark.parametrize("hostile", ["..\\evil.safetensors", "a/b.safetensors", "", "nul", "C:x"])
async def test_a_hostile_file_name_is_refused_and_leaves_nothing(
    library: Library, hostile: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        await library.upload(A, hostile)
    assert caught.value.code == "invalid_lora_name"
    assert await library.keys() == set()


async def test_fields_that_do_not_fit_are_named(library: Library) -> None:
    with pytest.raises(InvalidError) as caught:
        await library.upload(A, colour="red")
    assert set(caught.value.details["fields"]) == {"colour"}
    with pytest.raises(InvalidError) as caught:
        await library.upload(A, tags="[1]")
    assert set(caught.value.details["fields"]) == {"tags.0"}


async def killed(library: Library, monkeypatch: pytest.MonkeyPatch, filename: str) -> None:
    """An upload whose sidecar is killed when its bytes are stored, and its row is not written."""

    async def crash(_store: LoraStore, version: object, *_: object) -> None:
        raise RuntimeError(version)

    async def is_dead(key: str) -> None:
        raise UnavailableError("blobs", key)

    with monkeypatch.context() as broken:
        broken.setattr(LoraStore, "add_version", crash)
        broken.setattr(library.blobs, "delete", is_dead)
        with pytest.raises(RuntimeError):
            await library.upload(A, filename)


async def test_a_crash_between_bytes_and_row_shows_nothing_and_blocks_nothing(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    await killed(library, monkeypatch, "style.safetensors")
    (left,) = await library.keys()
    assert await names(library) == []
    assert await library.service.names(ANN) == []
    with pytest.raises(InvalidError, match="style"):
        await library.resolver.pin(ANN, ["style"])
    other, _ = await library.upload(B)
    assert other.lora.head.version == 1
    same, created = await library.upload(A)
    assert created
    assert {version.version for version in same.versions} == {1, 2}
    assert left not in {version.object_key for version in same.versions}


async def test_a_crash_leaves_no_name_taken(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    await killed(library, monkeypatch, "lost.safetensors")
    kept, _ = await library.upload(B, "kept.safetensors")
    change = LoraChange(name="lost")
    assert (await library.service.edit(ANN, kept.lora.id, change)).lora.name == "lost"


async def test_a_restored_version_is_the_head(library: Library) -> None:
    first, _ = await library.upload(lora_bytes(1, metadata={"ss_base_model_version": "sd1"}))
    await library.upload(lora_bytes(2, metadata={"ss_base_model_version": "sdxl"}))
    assert await names(library, base_model="sdxl") == ["style"]
    restored = await library.service.restore(ANN, first.lora.id, 1)
    assert restored.lora.head.version == 1
    assert await names(library, base_model="sdxl") == []
    assert await names(library, base_model="sd1") == ["style"]
    with pytest.raises(NotFoundError, match="version"):
        await library.service.restore(ANN, first.lora.id, 3)


async def test_a_renamed_lora_keeps_its_files_and_pinned_paths(library: Library) -> None:
    first, _ = await library.upload(A)
    path = str(first.lora.pin(ANN.folder).path)
    await library.service.edit(ANN, first.lora.id, LoraChange(name="New"))
    found = await library.resolver.pin(ANN, ["new", path])
    assert found["new"] == found[path]
    with pytest.raises(InvalidError):
        await library.resolver.pin(ANN, ["style"])


async def test_a_name_that_is_taken_is_refused_in_any_case(library: Library) -> None:
    await library.upload(A, "One.safetensors")
    two, _ = await library.upload(B, "two.safetensors")
    with pytest.raises(ConflictError) as caught:
        await library.service.edit(ANN, two.lora.id, LoraChange(name="ONE"))
    assert caught.value.code == "lora_name_taken"
    renamed = await library.service.edit(ANN, two.lora.id, LoraChange(name="Two"))
    assert renamed.lora.name == "Two"


async def test_deleting_removes_rows_blobs_and_files(library: Library) -> None:
    detail, _ = await library.upload(A)
    await library.upload(B)
    path = await library.sync.ensure(detail.lora.pin(ANN.folder))
    await library.service.delete(ANN, detail.lora.id)
    assert await library.keys() == set()
    assert not path.exists()
    with pytest.raises(NotFoundError):
        await library.service.get(ANN, detail.lora.id)


async def test_bytes_that_another_lora_shares_outlive_a_delete(library: Library) -> None:
    renamed, _ = await library.upload(A)
    await library.service.edit(ANN, renamed.lora.id, LoraChange(name="renamed"))
    again, _ = await library.upload(A)
    assert again.lora.id != renamed.lora.id
    await library.service.delete(ANN, again.lora.id)
    assert await library.keys() == {renamed.lora.head.object_key}


@pytest.mark.parametrize("status", [Status.QUEUED, Status.PREPARING, Status.RUNNING])
async def test_a_lora_that_a_run_needs_cannot_be_deleted(library: Library, status: Status) -> None:
    detail, _ = await library.upload(A)
    run = some_run(library.clock.now(), ANN.id, status=status, loras=(detail.lora.pin(ANN.folder),))
    async with library.database.transaction(ANN) as tx:
        await RunStore(tx).add(run)
    with pytest.raises(ConflictError) as caught:
        await library.service.delete(ANN, detail.lora.id)
    assert caught.value.code == "lora_in_use"
    assert len(await library.keys()) == 1


async def test_a_finished_run_does_not_keep_its_lora(library: Library) -> None:
    detail, _ = await library.upload(A)
    pins = (detail.lora.pin(ANN.folder),)
    run = some_run(library.clock.now(), ANN.id, status=Status.SUCCEEDED, loras=pins)
    async with library.database.transaction(ANN) as tx:
        await RunStore(tx).add(run)
    await library.service.delete(ANN, detail.lora.id)


async def test_uploads_and_deletes_at_once_never_show_a_lora_without_bytes(
    library: Library,
) -> None:
    async def upload_and_delete() -> None:
        detail, _ = await library.upload(A)
        with contextlib.suppress(NotFoundError):
            await library.service.delete(ANN, detail.lora.id)
        await library.upload(A)

    answers = await asyncio.gather(*(upload_and_delete() for _ in range(6)), return_exceptions=True)
    assert all(answer is None or isinstance(answer, AtelierError) for answer in answers)
    shown = {lora.head.object_key for lora in (await page(library)).items}
    assert await library.keys() == shown


async def test_two_files_whose_hashes_begin_alike_are_not_confused(library: Library) -> None:
    sha256 = hashlib.sha256(A).hexdigest()
    detail, _ = await library.upload(B)
    other = sha256[:8] + "0" * 56
    forged = replace(detail.lora.head, sha256=other, filename=filename("style", other))
    async with library.database.transaction(ANN) as tx:
        await LoraStore(tx).add_version(forged, "upload", None)
    with pytest.raises(ConflictError) as caught:
        await library.upload(A)
    assert caught.value.code == "lora_hash_taken"


async def test_lists_are_newest_first_and_searched(library: Library) -> None:
    await library.upload(A, "Alpha.safetensors", tags="x,y")
    await library.upload(B, "Beta.safetensors", description="like 100% alpha")
    await library.upload(C, "\u00c4ther.safetensors", tags="xy")
    assert await names(library) == ["\u00c4ther", "Beta", "Alpha"]
    assert await names(library, q="ALPHA") == ["Beta", "Alpha"]
    assert await names(library, q="\u00c4TH") == ["\u00c4ther"]
    assert await names(library, q="100%") == ["Beta"]
    assert await names(library, q="_") == []
    assert await names(library, tag="x") == ["Alpha"]
    first = await page(library, limit=2)
    rest = await page(library, limit=2, cursor=first.next_cursor)
    assert [lora.name for lora in rest.items] == ["Alpha"]
    assert rest.next_cursor is None


async def test_names_are_the_own_ones_then_the_shared_files(library: Library) -> None:
    await library.upload(A, "Old.safetensors")
    new, _ = await library.upload(B, "New.safetensors")
    await library.upload(C, "foreign.safetensors", BEN)
    await library.sync.ensure(new.lora.pin(ANN.folder))
    library.share("shared.safetensors")
    library.share("anime/x.safetensors")
    found = await library.service.names(ANN)
    assert found[:2] == ["New.safetensors", "Old.safetensors"]
    assert {name.replace("\\", "/") for name in found[2:]} == {
        "shared.safetensors",
        "anime/x.safetensors",
    }


async def test_names_are_the_own_ones_while_comfyui_is_away(library: Library) -> None:
    await library.upload(A)
    library.share("shared.safetensors")
    library.comfyui.answer_status = 500
    assert await library.service.names(ANN) == ["style.safetensors"]


async def test_names_in_a_prompt_become_pins_or_shared_files(library: Library) -> None:
    first, _ = await library.upload(A)
    second, _ = await library.upload(B)
    library.share("anime/x.safetensors")
    old = str(first.lora.pin(ANN.folder).path)
    written = ["style", "Style.safetensors", old, old.replace("/", "\\"), "anime/x", "anime\\x"]
    found = await library.resolver.pin(ANN, written)
    assert found["style"] == found["Style.safetensors"] == second.lora.pin(ANN.folder)
    for path in (old, old.replace("/", "\\")):
        pinned = found[path]
        assert isinstance(pinned, LoraPin)
        assert (pinned.version, pinned.sha256) == (1, first.lora.head.sha256)
    assert str(found["anime/x"]).replace("\\", "/") == "anime/x.safetensors"
    assert found["anime/x"] == found["anime\\x"]


async def test_comfyui_is_not_asked_for_what_the_library_has(library: Library) -> None:
    await library.upload(A)
    library.comfyui.answer_status = 500
    await library.resolver.pin(ANN, ["style"])
    with pytest.raises(AtelierError):
        await library.resolver.pin(ANN, ["style", "other"])


async def test_every_name_that_cannot_be_used_is_named(library: Library) -> None:
    await library.upload(A)
    foreign = f"{BEN.folder}/x.0a1b2c3d.safetensors"
    with pytest.raises(ForbiddenError) as forbidden:
        await library.resolver.pin(ANN, ["style", "../x", foreign, "user-z/x", "missing"])
    assert forbidden.value.code == "foreign_lora"
    assert forbidden.value.details == {"names": [foreign, "user-z/x"]}
    with pytest.raises(InvalidError) as invalid:
        await library.resolver.pin(ANN, ["style", "../x", "", "x" * 300, "missing"])
    assert invalid.value.code == "invalid_lora_name"
    assert invalid.value.details == {"names": ["../x", "", "x" * 300]}
    own = f"{ANN.folder}/style.00000000.safetensors"
    with pytest.raises(InvalidError) as missing:
        await library.resolver.pin(ANN, ["style", "x", "anime/y.safetensors", own])
    assert missing.value.code == "lora_not_found"
    assert missing.value.details == {"names": ["x", "anime/y.safetensors", own]}


async def test_a_foreign_file_that_comfyui_lists_is_never_a_shared_one(library: Library) -> None:
    bens, _ = await library.upload(A, "secret.safetensors", BEN)
    await library.sync.ensure(bens.lora.pin(BEN.folder))
    for written in ("secret", "secret.safetensors", bens.lora.pin(BEN.folder).path.name):
        with pytest.raises(InvalidError, match="secret"):
            await library.resolver.pin(ANN, [written])
    with pytest.raises(ForbiddenError):
        await library.resolver.pin(ANN, [str(bens.lora.pin(BEN.folder).path)])


async def test_nobody_sees_or_changes_what_is_another_s(library: Library) -> None:
    detail, _ = await library.upload(A)
    lora_id = detail.lora.id
    service = library.service
    assert (await service.page(BEN, LoraQuery())).items == []
    assert await service.names(BEN) == []
    for attempt in (
        service.get(BEN, lora_id),
        service.file(BEN, lora_id, None),
        service.file(BEN, lora_id, 1),
        service.edit(BEN, lora_id, LoraChange(name="mine")),
        service.restore(BEN, lora_id, 1),
        service.delete(BEN, lora_id),
        library.intake.add_version(BEN, lora_id, form(B, "x", {})),
    ):
        with pytest.raises(NotFoundError):
            await attempt
    with pytest.raises(InvalidError):
        await library.resolver.pin(BEN, ["style"])
    unchanged = await service.get(ANN, lora_id)
    assert unchanged == detail


async def test_two_people_s_loras_of_one_name_are_two(library: Library) -> None:
    anns, _ = await library.upload(A)
    bens, created = await library.upload(A, who=BEN)
    assert created
    assert anns.lora.id != bens.lora.id
    await library.service.delete(BEN, bens.lora.id)
    assert await library.keys() == {anns.lora.head.object_key}


async def test_a_lora_is_shown_while_comfyui_s_folder_is_broken(library: Library) -> None:
    detail, _ = await library.upload(A)
    library.loras_dir.rmdir()
    library.loras_dir.write_bytes(b"a file")
    assert not (await library.service.get(ANN, detail.lora.id)).synced
    with pytest.raises(UnavailableError):
        await library.sync.ensure(detail.lora.pin(ANN.folder))

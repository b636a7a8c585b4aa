"""LoRAs that are shared: who may run with them, as what they are named, and how that ends."""

from dataclasses import replace
from uuid import uuid4

import pytest
from lora_library import ANN, BEN, CID, EMAILS, Library, form
from safetensors_files import lora_bytes
from some_runs import some_run

from sidecar.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from sidecar.loras.models import Access, Lora, LoraPin
from sidecar.loras.store import LoraStore
from sidecar.loras.views import LoraChange, LoraQuery
from sidecar.principal import Principal
from sidecar.runs.store import RunStore

A, B, C = (lora_bytes(seed) for seed in range(3))
ANNS, BENS = EMAILS[ANN], EMAILS[BEN]


@pytest.fixture
async def anns(library: Library) -> Lora:
    """Ann's, shared with nobody yet."""
    await library.accounts()
    detail, _ = await library.upload(A)
    await library.upload(B, "secret")
    return detail.lora


async def listed(library: Library, who: Principal, scope: str) -> list[tuple[str, str | None, str]]:
    page = await library.service.page(who, LoraQuery.model_validate({"scope": scope}))
    return [(lora.name, lora.owner, lora.access.value) for lora in page.items]


async def refused(library: Library, who: Principal, *names: str) -> InvalidError:
    with pytest.raises(InvalidError) as caught:
        await library.resolver.pin(who, names)
    return caught.value


async def test_whom_it_is_shared_with_runs_it_from_a_folder_of_their_own(
    library: Library, anns: Lora
) -> None:
    await library.give(anns.id, BENS)
    for name in ("style", "Style.safetensors", f"@{ANNS}/style", f"@{ANN.id}/STYLE"):
        pin = await library.pinned(name, BEN)
        assert (pin.lora_id, pin.owner_id, pin.sha256) == (anns.id, ANN.id, anns.head.sha256)
        assert pin.path.parts == (BEN.folder, anns.head.filename)
    path = await library.sync.ensure(await library.pinned("style", BEN))
    assert path.read_bytes() == A
    again = await library.pinned(str(pin.path), BEN)
    assert again == pin
    assert (await refused(library, CID, "style", f"@{ANNS}/style")).code == "lora_not_found"


async def test_everything_else_of_the_owner_stays_hidden(library: Library, anns: Lora) -> None:
    await library.give(anns.id, BENS)
    secret = (await library.service.page(ANN, LoraQuery(q="secret"))).items[0]
    assert await listed(library, BEN, "shared") == [("style", ANNS, "run")]
    names = ["secret", f"{BEN.folder}/{secret.head.filename}", f"@{ANNS}/secret"]
    assert (await refused(library, BEN, *names)).details == {"names": names}
    with pytest.raises(NotFoundError):
        await library.service.get(BEN, secret.id)
    with pytest.raises(NotFoundError):
        await library.service.file(BEN, secret.id, None)


async def test_lists_show_one_s_own_what_is_shared_or_both(library: Library, anns: Lora) -> None:
    await library.upload(C, "bens", BEN)
    await library.give(anns.id, BENS, can_download=True)
    assert await listed(library, BEN, "mine") == [("bens", None, "owner")]
    assert await listed(library, BEN, "shared") == [("style", ANNS, "download")]
    assert await listed(library, BEN, "all") == [
        ("bens", None, "owner"),
        ("style", ANNS, "download"),
    ]
    assert await listed(library, ANN, "shared") == []
    assert [name for name, _, _ in await listed(library, ANN, "all")] == ["secret", "style"]
    assert await listed(library, CID, "all") == []


async def test_pages_of_what_is_shared_follow_each_other(library: Library, anns: Lora) -> None:
    await library.upload(C, "bens", BEN)
    await library.give(anns.id, everyone=True)
    first = await library.service.page(BEN, LoraQuery(scope="all", limit=1))
    rest = await library.service.page(
        BEN, LoraQuery(scope="all", limit=1, cursor=first.next_cursor)
    )
    assert [lora.name for lora in (*first.items, *rest.items)] == ["bens", "style"]
    assert rest.next_cursor is None


async def test_a_grantee_sees_what_it_is_and_changes_nothing(library: Library, anns: Lora) -> None:
    await library.give(anns.id, BENS)
    service = library.service
    seen = await service.get(BEN, anns.id)
    assert (seen.lora.owner, seen.lora.access) == (ANNS, Access.RUN)
    assert [version.version for version in seen.versions] == [1]
    assert seen.path.parts[0] == BEN.folder
    for attempt in (
        service.edit(BEN, anns.id, LoraChange(name="mine")),
        service.restore(BEN, anns.id, 1),
        service.delete(BEN, anns.id),
        service.delete_version(BEN, anns.id, 1),
        service.uses(BEN, anns.id, 1),
        library.intake.add_version(BEN, anns.id, form(C, "x", {})),
        library.sharing.shared(BEN, anns.id),
        library.give(anns.id, EMAILS[CID], who=BEN),
    ):
        with pytest.raises(NotFoundError):
            await attempt
    assert (await service.get(ANN, anns.id)).lora == anns


async def test_the_file_is_given_only_where_that_is_allowed(library: Library, anns: Lora) -> None:
    await library.give(anns.id, BENS)
    with pytest.raises(ForbiddenError) as caught:
        await library.service.file(BEN, anns.id, None)
    assert caught.value.code == "download_not_allowed"
    await library.give(anns.id, BENS, can_download=True)
    for version in (None, 1):
        assert (await library.service.file(BEN, anns.id, version)).sha256 == anns.head.sha256
    with pytest.raises(NotFoundError):
        await library.service.file(CID, anns.id, None)


async def test_an_earlier_version_is_shared_as_well(library: Library, anns: Lora) -> None:
    await library.upload(C)
    await library.give(anns.id, BENS)
    for name in ("style@1", f"@{ANNS}/style@1", f"{BEN.folder}/{anns.head.filename}"):
        assert (await library.pinned(name, BEN)).version == 1
    assert (await library.pinned("style", BEN)).version == 2
    assert (await refused(library, BEN, f"@{ANNS}/style@3")).code == "lora_not_found"


async def test_a_name_of_one_s_own_or_of_comfyui_s_means_that(library: Library, anns: Lora) -> None:
    await library.give(anns.id, everyone=True)
    library.share("style.safetensors")
    assert (await library.resolver.pin(BEN, ["style"]))["style"] == "style.safetensors"
    bens, _ = await library.upload(C, who=BEN)
    assert (await library.pinned("style", BEN)).lora_id == bens.lora.id
    assert (await library.pinned(f"@{ANNS}/style", BEN)).lora_id == anns.id
    assert (await library.pinned(f"@{BENS}/style", BEN)).lora_id == bens.lora.id
    # a version that one's own lacks is not somebody else's
    await library.upload(C)
    assert (await refused(library, BEN, "style@2")).code == "lora_not_found"


async def test_two_shared_ones_of_a_name_are_refused_with_both_written_out(
    library: Library, anns: Lora
) -> None:
    bens, _ = await library.upload(C, "Style", BEN)
    await library.give(anns.id, EMAILS[CID])
    await library.give(bens.lora.id, who=BEN, everyone=True)
    error = await refused(library, CID, "style", "style@1", "missing")
    assert error.code == "ambiguous_lora"
    assert error.details == {
        "names": ["style", "style@1"],
        "candidates": {
            "style": [f"@{ANNS}/style", f"@{BENS}/Style"],
            "style@1": [f"@{ANNS}/style@1", f"@{BENS}/Style@1"],
        },
    }
    written = error.details["candidates"]["style@1"][1]
    assert (await library.pinned(written, CID)).lora_id == bens.lora.id


async def test_names_to_choose_from_say_whose_they_are(library: Library, anns: Lora) -> None:
    await library.upload(C, "bens", BEN)
    library.share("free.safetensors")
    await library.give(anns.id, BENS)
    names = ["bens.safetensors", "free.safetensors", f"@{ANNS}/style.safetensors"]
    assert await library.service.names(BEN) == names
    found = await library.resolver.pin(BEN, names)
    pin = found[names[2]]
    assert isinstance(pin, LoraPin)
    assert pin.lora_id == anns.id


async def test_somebody_who_is_not_here_is_named(library: Library, anns: Lora) -> None:
    nobody = str(uuid4())
    with pytest.raises(InvalidError) as caught:
        await library.give(anns.id, BENS, "who@example.org", nobody)
    assert caught.value.code == "unknown_user"
    assert caught.value.details == {"users": ["who@example.org", nobody]}
    assert not (await library.sharing.shared(ANN, anns.id)).people


async def test_who_may_not_sign_in_is_given_nothing(library: Library, anns: Lora) -> None:
    await library.disable(BEN)
    with pytest.raises(InvalidError) as caught:
        await library.give(anns.id, BENS, str(BEN.id))
    assert caught.value.details == {"users": [BENS, str(BEN.id)]}


async def test_sharing_replaces_what_was_and_leaves_oneself_out(
    library: Library, anns: Lora
) -> None:
    await library.give(anns.id, BENS.upper(), str(BEN.id), ANNS)
    shared = await library.sharing.shared(ANN, anns.id)
    assert (shared.everyone, shared.can_download, shared.people) == (False, False, {BEN.id: BENS})
    await library.give(anns.id, EMAILS[CID], everyone=True, can_download=True)
    shared = await library.sharing.shared(ANN, anns.id)
    assert (shared.everyone, shared.can_download) == (True, True)
    assert set(shared.people) == {CID.id}
    await library.give(anns.id)
    assert not (await library.sharing.shared(ANN, anns.id)).everyone


async def test_unsharing_stops_new_runs_and_takes_the_file_away(
    library: Library, anns: Lora
) -> None:
    await library.give(anns.id, BENS, EMAILS[CID])
    path = await library.sync.ensure(await library.pinned("style", BEN))
    kept = await library.sync.ensure(await library.pinned("style", CID))
    own = await library.sync.ensure(await library.pinned("style"))
    await library.give(anns.id, EMAILS[CID])
    assert (await refused(library, BEN, "style")).code == "lora_not_found"
    assert (path.exists(), kept.exists(), own.exists()) == (False, True, True)
    await library.service.delete(ANN, anns.id)
    assert (kept.exists(), own.exists()) == (False, False)


async def test_a_run_that_was_accepted_keeps_its_file_and_the_lora(
    library: Library, anns: Lora
) -> None:
    await library.give(anns.id, BENS)
    pin = await library.pinned("style", BEN)
    path = await library.sync.ensure(pin)
    async with library.database.transaction(BEN) as tx:
        await RunStore(tx).add(some_run(library.clock.now(), BEN.id, loras=(pin,)))
    await library.give(anns.id)
    assert path.exists()
    assert (await library.service.uses(ANN, anns.id, 1)).is_needed
    with pytest.raises(ConflictError) as caught:
        await library.service.delete(ANN, anns.id)
    assert caught.value.code == "lora_in_use"


async def test_a_file_that_the_grantee_has_too_stays_when_it_is_unshared(
    library: Library, anns: Lora
) -> None:
    bens, _ = await library.upload(A, who=BEN)
    await library.give(anns.id, BENS)
    path = await library.sync.ensure(await library.pinned("style", BEN))
    await library.give(anns.id)
    assert path.exists()
    assert (await library.pinned("style", BEN)).lora_id == bens.lora.id


async def test_another_s_file_never_takes_the_place_of_one_s_own(
    library: Library, anns: Lora
) -> None:
    await library.give(anns.id, BENS)
    bens, _ = await library.upload(C, who=BEN)
    forged = replace(bens.lora.head, filename=anns.head.filename)
    async with library.database.transaction(BEN) as tx:
        await LoraStore(tx).add_version(forged, "upload", None)
    error = await refused(library, BEN, f"@{ANNS}/style")
    assert error.code == "lora_hash_taken"


async def test_who_only_calls_themselves_so_at_supabase_is_not_found(
    library: Library, anns: Lora
) -> None:
    dan = Principal(uuid4())
    await library.join(dan, None, supabase_email="dan@example.org")
    with pytest.raises(InvalidError):
        await library.give(anns.id, "dan@example.org")
    await library.give(anns.id, str(dan.id))
    dans, _ = await library.upload(C, "dans", dan)
    await library.give(dans.lora.id, ANNS, who=dan)
    assert await listed(library, ANN, "shared") == [("dans", str(dan.id), "run")]
    assert (await library.pinned(f"@{dan.id}/dans")).lora_id == dans.lora.id


async def test_in_a_studio_without_accounts_sharing_does_no_harm(library: Library) -> None:
    detail, _ = await library.upload(A)
    await library.give(detail.lora.id, everyone=True)
    assert (await library.pinned("style")).lora_id == detail.lora.id
    assert await listed(library, ANN, "shared") == []
    with pytest.raises(InvalidError):
        await library.give(detail.lora.id, ANNS)

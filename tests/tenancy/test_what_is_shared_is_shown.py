"""One LoRA is shared: whom it is shared with gets that one, and nothing else of its owner's."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from asked_as_another import Inquiry, as_
from databases import PostgresStudios
from interrogated import ADMIN, ANN, BEN, Walls, of_others
from studio import drawing
from two_people import Person, Things, World, furnish, opened_world

from sidecar.database import Transaction
from sidecar.database.tables import lora_versions, loras

pytestmark = pytest.mark.timeout(180)

HIDDEN = {"owner_id", "object_key", "source", "source_ref"}
"""Columns of a shared LoRA that are shown to nobody else."""


@dataclass
class Sharing:
    """Ann's LoRA ``anns.lora`` is shared with Ben."""

    world: World
    ann: Person
    ben: Person
    anns: Things
    bens: Things

    async def refused(self, method: str, path: str, **kwargs: Any) -> tuple[int, str]:
        """What Ben is told who may not."""
        studio = self.world.studio
        status, answer = await studio.ask(method, path, headers=as_(self.ben), **kwargs)
        return status, answer["error"]["code"]


@pytest.fixture
def urls(request: pytest.FixtureRequest, postgres: PostgresStudios) -> Iterator[Any]:
    """Of a database of this test's own; None: SQLite."""
    if request.param is Walls.SQLITE:
        yield None
    else:
        name = postgres.new()
        yield postgres.url(name), postgres.admin_url(name)
        postgres.server.drop_database(name)


@pytest.fixture
async def sharing(urls: Any, tmp_path: Path) -> AsyncIterator[Sharing]:
    """Ann shares one with Ben; both have more, and share others with others."""
    async with opened_world(tmp_path, urls) as world:
        await world.join(ADMIN, sessions=0)
        ann, ben = await world.join(ANN), await world.join(BEN)
        anns = await furnish(world, ann, "annabel", 20)
        bens = await furnish(world, ben, "benjamin", 10)
        await ann.ask("PUT", f"/loras/{anns.lora}/shares", json={"users": [BEN]})
        yield Sharing(world, ann, ben, anns, bens)


def shown_of(world: World, lora_id: str) -> set[str]:
    """All that may be seen of a LoRA."""
    shown: set[str] = set()
    with world.admin.connect() as connection:
        for table, key in ((loras, loras.c.id), (lora_versions, lora_versions.c.lora_id)):
            columns = [column for column in table.c if column.name not in HIDDEN]
            for row in connection.execute(sa.select(*columns).where(key == UUID(lora_id))):
                shown.update(map(str, row))
                shown.update(tag for value in row if isinstance(value, list) for tag in value)
    return shown


@pytest.mark.parametrize(
    ("urls", "by_policies_alone"),
    [(Walls.SQLITE, False), (Walls.POSTGRES, False), (Walls.POLICIES, True)],
    ids=["SQLITE", "POSTGRES", "POLICIES"],
    indirect=["urls"],
)
async def test_nothing_else_of_the_owner_is_shown(
    sharing: Sharing, by_policies_alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_policies_alone:
        monkeypatch.setattr(Transaction, "mine", lambda _tx, _table: sa.true())
        monkeypatch.setattr(Transaction, "granted", of_others)
    words = sharing.world.words(sharing.ann.id) - sharing.world.words(sharing.ben.id)
    secrets = words - shown_of(sharing.world, sharing.anns.lora) - {ANN}
    assert len(secrets) > 20
    inquiry = Inquiry(
        sharing.ben, sharing.bens, sharing.anns, frozenset(secrets), defaultdict(list)
    )
    await inquiry.look_for_secrets()
    assert dict(inquiry.findings) == {}
    (found,) = (await sharing.ben.ask("GET", "/loras", params={"scope": "shared"}))["items"]
    assert (found["id"], found["owner"], found["access"]) == (sharing.anns.lora, ANN, "run")


@pytest.mark.parametrize(
    "urls", [Walls.SQLITE, Walls.POSTGRES], ids=["SQLITE", "POSTGRES"], indirect=True
)
async def test_it_is_run_until_it_is_unshared(sharing: Sharing) -> None:
    name, path = sharing.anns.lora_name, f"/loras/{sharing.anns.lora}"
    order = {"workflow_json": drawing(3, f"@{ANN}/{name}@1", "LoraLoader")}
    run = await sharing.ben.ask("POST", "/runs", json=order)
    done = await sharing.ben.until(run["id"], "succeeded")
    assert done["loras"][0]["path"].startswith(f"user-{sharing.ben.account}/")
    file = sharing.world.folder / "loras" / done["loras"][0]["path"]
    assert file.exists()
    assert await sharing.refused("GET", f"{path}/file") == (403, "download_not_allowed")
    for method, changed in (("PATCH", path), ("DELETE", path), ("GET", f"{path}/shares")):
        body: dict[str, Any] = {"json": {"name": "x"}} if method == "PATCH" else {}
        assert await sharing.refused(method, changed, **body) == (404, "lora_not_found")

    await sharing.ann.ask("DELETE", f"{path}/shares")

    assert not file.exists()
    for lora in (name, f"@{ANN}/{name}", done["loras"][0]["path"]):
        body = {"json": {"workflow_json": drawing(3, lora)}}
        assert await sharing.refused("POST", "/runs", **body) == (422, "lora_not_found")
    assert await sharing.refused("GET", path) == (404, "lora_not_found")
    assert (await sharing.ben.ask("GET", f"/runs/{run['id']}"))["status"] == "succeeded"

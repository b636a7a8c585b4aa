"""Whoever asks a route about another's things is told what is told about things that never were.

With both walls, and with each of them alone.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from asked_as_another import KEYS, PACK_KEYS, label
from interrogated import Told, Walls
from requests_about import PACK_TABLE, TABLE
from studio import settings_for

from sidecar.app import make_app
from sidecar.http.routing import BASE

pytestmark = pytest.mark.timeout(180)

EVERYWHERE = pytest.mark.parametrize("walls", Walls, ids=lambda walls: walls.name.lower())
OPEN_TO_ALL = {"/health", "/ready", f"{BASE}/openapi.json", f"{BASE}/docs"}
"""They say nothing of anybody."""


def test_every_route_has_an_entry_and_every_entry_a_route() -> None:
    assert TABLE.keys() == KEYS.keys()
    assert PACK_TABLE.keys() == PACK_KEYS.keys()


def test_nothing_is_served_that_is_in_no_table_of_routes(tmp_path: Path) -> None:
    app = make_app(settings_for(tmp_path, "http://127.0.0.1:1"))
    served = {route.resource.canonical for route in app.router.routes() if route.resource}
    known = {BASE + path for _, path in KEYS} | {f"/internal{path}" for _, path in PACK_KEYS}
    assert served - known == OPEN_TO_ALL


@EVERYWHERE
@pytest.mark.parametrize("route", sorted(map(label, {**KEYS, **PACK_KEYS})))
def test_another_ones_things_are_as_if_they_never_were(
    interrogated: Callable[[Walls], Told], walls: Walls, route: str
) -> None:
    assert interrogated(walls).findings[route] == []


@EVERYWHERE
@pytest.mark.parametrize("what", ["lists", "rows", "files", "many at once"])
def test_nothing_of_another_was_shown_or_changed(
    interrogated: Callable[[Walls], Told], walls: Walls, what: str
) -> None:
    assert interrogated(walls).findings[what] == []

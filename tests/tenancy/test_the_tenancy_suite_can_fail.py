"""With a hole in the one wall that stands, the same questions find it."""

from collections.abc import Callable

import pytest
from interrogated import ASKED_FOR_FIRST, GRANTED, NO_TABLE, Told, Walls

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("table", ASKED_FOR_FIRST)
def test_a_statement_that_forgets_the_owner_is_found_on_sqlite(
    interrogated: Callable[[Walls], Told], table: str
) -> None:
    assert interrogated(Walls.SQLITE).holes[table] > 0


@pytest.mark.parametrize("table", ASKED_FOR_FIRST)
def test_a_policy_that_lets_all_through_is_found_when_the_conditions_are_off(
    interrogated: Callable[[Walls], Told], table: str
) -> None:
    assert interrogated(Walls.POLICIES).holes[table] > 0


@pytest.mark.parametrize("table", ASKED_FOR_FIRST)
def test_a_statement_that_forgets_the_owner_is_found_when_the_policies_are_off(
    interrogated: Callable[[Walls], Told], table: str
) -> None:
    assert interrogated(Walls.CONDITIONS).holes[table] > 0


@pytest.mark.parametrize("walls", [Walls.SQLITE, Walls.CONDITIONS])
def test_a_statement_that_forgets_whom_something_is_shared_with_is_found(
    interrogated: Callable[[Walls], Told], walls: Walls
) -> None:
    assert interrogated(walls).holes[GRANTED] > 0


@pytest.mark.parametrize("walls", Walls)
def test_without_a_hole_nothing_is_found(
    interrogated: Callable[[Walls], Told], walls: Walls
) -> None:
    assert interrogated(walls).holes[NO_TABLE] == 0


def test_both_walls_have_to_be_broken_on_postgres(
    interrogated: Callable[[Walls], Told],
) -> None:
    assert set(interrogated(Walls.POSTGRES).holes.values()) == {0}

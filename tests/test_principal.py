"""What is known of who asks."""

import pytest

from sidecar.principal import normal_email


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (" Ann@Example.ORG ", "ann@example.org"),
        ("\u212aim@example.org", "\u212aim@example.org"),
        ("stra\u00dfe@example.org", "stra\u00dfe@example.org"),
        ("\u00c4nn@example.org", "\u00c4nn@example.org"),
    ],
)
def test_no_two_addresses_become_one_but_for_the_case_of_ascii(written: str, kept: str) -> None:
    assert normal_email(written) == kept

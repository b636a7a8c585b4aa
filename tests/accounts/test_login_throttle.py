"""So many failures per account and per address, and then a while of none."""

import pytest
from clock import FakeClock

from sidecar.accounts.throttle import LoginThrottle
from sidecar.errors import QuotaError


def fail(throttle: LoginThrottle, times: int, account: str = "ann", address: str = "") -> None:
    for _ in range(times):
        throttle.attempt(account, address or "192.0.2.1")


def wait_of(throttle: LoginThrottle, account: str = "ann", address: str = "192.0.2.1") -> int:
    with pytest.raises(QuotaError) as refused:
        throttle.attempt(account, address)
    assert refused.value.code == "too_many_logins"
    return int(refused.value.details["retry_after"])


def test_the_sixth_failure_for_an_account_within_five_minutes_waits(clock: FakeClock) -> None:
    throttle = LoginThrottle(clock)
    fail(throttle, 1)
    clock.tick(100)
    fail(throttle, 4)
    assert wait_of(throttle, address="198.51.100.7") == 200


def test_it_may_try_again_when_the_first_failure_is_five_minutes_old(clock: FakeClock) -> None:
    throttle = LoginThrottle(clock)
    fail(throttle, 1)
    clock.tick(100)
    fail(throttle, 4)
    clock.tick(200)
    fail(throttle, 1)
    assert wait_of(throttle) == 100


def test_a_refused_attempt_does_not_make_the_wait_longer(clock: FakeClock) -> None:
    throttle = LoginThrottle(clock)
    fail(throttle, 5)
    clock.tick(299)
    assert wait_of(throttle) == 1
    clock.tick(1)
    fail(throttle, 1)


def test_another_account_is_not_held_up(clock: FakeClock) -> None:
    throttle = LoginThrottle(clock)
    fail(throttle, 5)
    fail(throttle, 5, "ben")


def test_success_starts_the_account_anew(clock: FakeClock) -> None:
    throttle = LoginThrottle(clock)
    fail(throttle, 4)
    throttle.attempt("ann", "192.0.2.1").succeeded()
    fail(throttle, 5)
    wait_of(throttle)


def test_an_address_may_fail_thirty_times_whatever_the_names(clock: FakeClock) -> None:
    throttle = LoginThrottle(clock)
    for number in range(30):
        throttle.attempt(f"name {number}", "192.0.2.1")
    assert wait_of(throttle, "somebody new") == 300
    throttle.attempt("somebody new", "192.0.2.2")


def test_an_address_from_which_many_sign_in_well_is_not_held_up(clock: FakeClock) -> None:
    throttle = LoginThrottle(clock)
    for number in range(100):
        throttle.attempt(f"name {number}", "192.0.2.1").succeeded()
    fail(throttle, 1)


def test_an_attempt_that_never_was_does_not_count(clock: FakeClock) -> None:
    throttle = LoginThrottle(clock)
    for _ in range(100):
        throttle.attempt("ann", "192.0.2.1").never_was()
    fail(throttle, 5)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("not an address", "not an address"),
    ],
)
def test_addresses_of_one_customer_count_together(clock: FakeClock, one: str, other: str) -> None:
    throttle = LoginThrottle(clock, per_address=2)
    throttle.attempt("a", one)
    throttle.attempt("b", other)
    wait_of(throttle, "c", one)


def test_those_that_tried_longest_ago_are_forgotten_first(clock: FakeClock) -> None:
    throttle = LoginThrottle(clock, remembered=10)
    fail(throttle, 5, "first")
    for number in range(9):
        throttle.attempt(f"name {number}", f"192.0.2.{number}")
    wait_of(throttle, "first", "198.51.100.1")
    throttle.attempt("one too many", "192.0.2.99")
    throttle.attempt("first", "198.51.100.1")


def test_a_clock_that_is_set_back_locks_nobody_out(clock: FakeClock) -> None:
    throttle = LoginThrottle(clock)
    fail(throttle, 5)
    clock.tick(-86_400)
    fail(throttle, 1)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_an_address_of_this_machine_is_a_tunnels_and_holds_nobody_up(
    clock: FakeClock, address: str
) -> None:
    throttle = LoginThrottle(clock)
    for number in range(100):
        throttle.attempt(f"name {number}", address)
    fail(throttle, 5, address=address)
    assert wait_of(throttle, address=address) == 300
    throttle.attempt("name 1", address).succeeded()
    throttle.attempt("name 2", address).never_was()

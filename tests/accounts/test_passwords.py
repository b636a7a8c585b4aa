"""Passwords are hashed with argon2id, so many at a time, and cost the same for nobody's name."""

import asyncio
import threading
import unicodedata

import pytest
from accounts_room import PASSWORD, CountingHasher
from argon2 import Type, extract_parameters
from argon2.profiles import RFC_9106_LOW_MEMORY

from sidecar.accounts.passwords import MAX_LENGTH, Passwords
from sidecar.errors import InvalidError, QuotaError


class HeldHasher(CountingHasher):
    """Verifies nothing before it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.at_once = 0
        self.most = 0
        self._lock = threading.Lock()

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:
        with self._lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        self.go.wait()
        with self._lock:
            self.at_once -= 1
        return super().verify(hash, password)


async def test_what_is_stored_is_argon2id_with_the_parameters_of_the_rfc() -> None:
    passwords = Passwords()
    stored = await passwords.hash(PASSWORD)
    passwords.close()
    assert extract_parameters(stored) == RFC_9106_LOW_MEMORY
    assert extract_parameters(stored).type is Type.ID
    assert PASSWORD not in stored


async def test_the_password_is_known_again_and_no_other() -> None:
    passwords = Passwords(CountingHasher())
    stored = await passwords.hash(PASSWORD)
    assert await passwords.verify(stored, PASSWORD)
    assert not await passwords.verify(stored, PASSWORD + "x")
    passwords.close()


async def test_nobodys_password_costs_one_verification_with_the_same_parameters() -> None:
    hasher = CountingHasher()
    passwords = Passwords(hasher)
    stored = await passwords.hash(PASSWORD)
    await passwords.verify(stored, "a wrong password")
    assert not await passwords.verify(None, "a wrong password")
    passwords.close()
    known, nobodys = (extract_parameters(str(each)) for each in hasher.verified)
    assert known == nobodys


async def test_a_hash_that_cannot_be_read_is_nobodys_password() -> None:
    passwords = Passwords(CountingHasher())
    assert not await passwords.verify("no hash at all", PASSWORD)
    passwords.close()


async def test_a_letter_typed_as_one_character_or_as_two_is_the_same() -> None:
    passwords = Passwords(CountingHasher())
    stored = await passwords.hash(unicodedata.normalize("NFC", "crème brûlée"))
    assert await passwords.verify(stored, unicodedata.normalize("NFD", "crème brûlée"))
    passwords.close()


@pytest.mark.parametrize(
    "password", ["", "short", "x" * 9, "x" * (MAX_LENGTH + 1), "with\0a nul in it", "\udcff" * 12]
)
async def test_a_password_that_breaks_the_rules_is_refused(password: str) -> None:
    passwords = Passwords(CountingHasher())
    with pytest.raises(InvalidError) as refused:
        await passwords.hash(password)
    passwords.close()
    assert refused.value.code == "invalid_password"


@pytest.mark.parametrize("password", ["x" * 10, "x" * MAX_LENGTH, "          ", "ünïcödé ☃ ok"])
async def test_length_is_the_only_rule(password: str) -> None:
    passwords = Passwords(CountingHasher())
    assert await passwords.verify(await passwords.hash(password), password)
    passwords.close()


async def test_a_hash_with_older_parameters_is_outdated() -> None:
    old, new = Passwords(CountingHasher(time_cost=1)), Passwords(CountingHasher(time_cost=2))
    stored = await old.hash(PASSWORD)
    assert new.is_outdated(stored)
    assert not old.is_outdated(stored)
    old.close()
    new.close()


async def test_no_more_are_hashed_or_wait_than_there_is_room_for() -> None:
    hasher = HeldHasher()
    passwords = Passwords(hasher, threads=2, waiting=3)
    asked = [asyncio.ensure_future(passwords.verify(None, PASSWORD)) for _ in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(QuotaError) as refused:
        await passwords.verify(None, PASSWORD)
    hasher.go.set()
    assert await asyncio.gather(*asked) == [False] * 5
    assert refused.value.code == "too_many_logins"
    assert refused.value.details["retry_after"] > 0
    assert hasher.most <= 2
    assert not await passwords.verify(None, PASSWORD)
    passwords.close()


async def test_who_leaves_while_waiting_gives_the_place_back() -> None:
    hasher = HeldHasher()
    passwords = Passwords(hasher, threads=1, waiting=1)
    first = asyncio.ensure_future(passwords.verify(None, PASSWORD))
    second = asyncio.ensure_future(passwords.verify(None, PASSWORD))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait({second})
    third = asyncio.ensure_future(passwords.verify(None, PASSWORD))
    await asyncio.sleep(0)
    hasher.go.set()
    assert await asyncio.gather(first, third) == [False, False]
    passwords.close()

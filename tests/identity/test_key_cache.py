"""The keys of an issuer: fetched once for all, never waited for when known, gone when withdrawn."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from signing_keys import es256, rs256
from stopwatch import Stopwatch
from supabase_emulator import SupabaseEmulator
from suspension import at_once
from troubled_server import Held, Trouble, answering, answering_json, endless, hanging_up
from waiting import until

from sidecar.errors import UnavailableError
from sidecar.identity.jwks import MAX_KEYS, JwksCache, Monotonic, read_keys

TTL, STALE, COOLDOWN = 600, 3600, 10
KEY = es256("first").jwk

NO_KEYS: dict[str, Trouble] = {
    "a page": answering(b"<html>Sorry</html>"),
    "nothing": answering(b""),
    "not UTF-8": answering(b'{"keys": ["\xff"]}'),
    "a list": answering_json([KEY]),
    "no keys member": answering_json({"key": [KEY]}),
    "keys that are no list": answering_json({"keys": {"first": KEY}}),
    "endless nesting": answering(b"[" * 100_000),
    "too many keys": answering_json({"keys": [KEY] * (MAX_KEYS + 1)}),
    "too many bytes": answering(json.dumps({"keys": [KEY], "x": "x" * 300_000}).encode()),
    "an endless answer": endless,
    "not found, with keys": answering_json({"keys": [KEY]}, status=404),
    "an error, with keys": answering_json({"keys": [KEY]}, status=500),
    "no answer": hanging_up,
}
no_keys = pytest.mark.parametrize("trouble", NO_KEYS.values(), ids=NO_KEYS.keys())


@asynccontextmanager
async def caching(
    http: aiohttp.ClientSession, server: SupabaseEmulator, monotonic: Monotonic, **options: float
) -> AsyncIterator[JwksCache]:
    """A running cache of that server's keys."""
    url = f"{server.url}/auth/v1/.well-known/jwks.json"
    cache = JwksCache(http, url, system="supabase_auth", monotonic=monotonic, **options)
    async with cache.running():
        yield cache


@pytest.fixture
async def keys(
    http: aiohttp.ClientSession, supabase: SupabaseEmulator, stopwatch: Stopwatch
) -> AsyncIterator[JwksCache]:
    """A cache that has fetched the one key."""
    async with caching(http, supabase, stopwatch) as cache:
        assert await cache.key("first") is not None
        yield cache


async def _gone(keys: JwksCache, kid: str) -> None:
    async def gone() -> bool:
        return await keys.key(kid) is None

    await until(gone)


async def test_fifty_first_questions_make_one_fetch(
    http: aiohttp.ClientSession, supabase: SupabaseEmulator, stopwatch: Stopwatch
) -> None:
    held = supabase.trouble["jwks"] = Held()
    async with caching(http, supabase, stopwatch) as keys:
        asking = [asyncio.create_task(keys.key("first")) for _ in range(50)]
        await held.arrived.wait()
        held.release.set()
        found = await asyncio.gather(*asking)
    assert all(key is not None and key.algorithm == "ES256" for key in found)
    assert supabase.asked["jwks"] == 1


async def test_a_flood_of_unknown_ids_makes_one_fetch(
    keys: JwksCache, supabase: SupabaseEmulator, stopwatch: Stopwatch
) -> None:
    stopwatch.tick(COOLDOWN)
    assert await asyncio.gather(*(keys.key(f"unknown-{n}") for n in range(50))) == [None] * 50
    assert await keys.key("one more") is None
    assert supabase.asked["jwks"] == 2


async def test_a_new_key_is_known_after_the_cooldown(
    keys: JwksCache, supabase: SupabaseEmulator, stopwatch: Stopwatch
) -> None:
    supabase.published.append(rs256("second"))
    assert await keys.key("second") is None
    stopwatch.tick(COOLDOWN)
    found = await keys.key("second")
    assert found is not None
    assert found.algorithm == "RS256"


async def test_a_key_that_was_taken_out_is_refused_after_its_time(
    keys: JwksCache, supabase: SupabaseEmulator, stopwatch: Stopwatch
) -> None:
    supabase.published = [es256("second")]
    stopwatch.tick(TTL)
    await _gone(keys, "first")
    assert await keys.key("second") is not None


async def test_all_keys_may_be_taken_out(
    keys: JwksCache, supabase: SupabaseEmulator, stopwatch: Stopwatch
) -> None:
    supabase.published = []
    stopwatch.tick(TTL)
    await _gone(keys, "first")


async def test_keys_are_fetched_again_while_nobody_asks(
    http: aiohttp.ClientSession, supabase: SupabaseEmulator
) -> None:
    async def asked_thrice() -> bool:
        return supabase.asked["jwks"] >= 3

    async with caching(http, supabase, time.monotonic, ttl=0.02, cooldown=0.01):
        await until(asked_thrice)


async def test_known_keys_do_not_wait_for_a_slow_server(
    keys: JwksCache, supabase: SupabaseEmulator, stopwatch: Stopwatch
) -> None:
    held = supabase.trouble["jwks"] = Held()
    stopwatch.tick(TTL)
    assert at_once(keys.key("first")) is not None
    await held.arrived.wait()
    assert at_once(keys.key("first")) is not None
    assert supabase.asked["jwks"] == 2


async def test_an_impatient_caller_takes_the_keys_from_nobody_else(
    http: aiohttp.ClientSession, supabase: SupabaseEmulator, stopwatch: Stopwatch
) -> None:
    held = supabase.trouble["jwks"] = Held()
    async with caching(http, supabase, stopwatch) as keys:
        impatient, patient = (asyncio.create_task(keys.key("first")) for _ in range(2))
        await held.arrived.wait()
        impatient.cancel()
        await asyncio.wait([impatient])
        held.release.set()
        assert await patient is not None
    assert impatient.cancelled()


async def test_a_server_that_is_too_slow_counts_as_away(
    http: aiohttp.ClientSession, supabase: SupabaseEmulator, stopwatch: Stopwatch
) -> None:
    supabase.trouble["jwks"] = Held()
    async with caching(http, supabase, stopwatch, patience=0.05) as keys:
        with pytest.raises(UnavailableError):
            await keys.key("first")


async def test_closing_does_not_wait_for_a_fetch(
    http: aiohttp.ClientSession, supabase: SupabaseEmulator, stopwatch: Stopwatch
) -> None:
    before = asyncio.all_tasks()
    held = supabase.trouble["jwks"] = Held()
    async with caching(http, supabase, stopwatch):
        await held.arrived.wait()
    assert not [task for task in asyncio.all_tasks() - before if "JwksCache" in repr(task)]


async def test_known_keys_go_on_while_the_server_is_down_but_not_for_ever(
    keys: JwksCache, supabase: SupabaseEmulator, stopwatch: Stopwatch
) -> None:
    supabase.trouble["jwks"] = hanging_up
    stopwatch.tick(STALE - 1)
    assert await keys.key("first") is not None
    with pytest.raises(UnavailableError) as unknown:
        await keys.key("unknown")
    assert unknown.value.details == {"system": "supabase_auth"}
    stopwatch.tick(1)
    with pytest.raises(UnavailableError) as stale:
        await keys.key("first")
    assert stale.value.code == "supabase_auth_unavailable"


async def test_a_server_that_comes_back_is_asked_again_after_the_cooldown(
    http: aiohttp.ClientSession, supabase: SupabaseEmulator, stopwatch: Stopwatch
) -> None:
    supabase.trouble["jwks"] = answering(status=503)
    async with caching(http, supabase, stopwatch) as keys:
        for _ in range(5):
            with pytest.raises(UnavailableError):
                await keys.key("first")
        assert supabase.asked["jwks"] == 1
        supabase.trouble.clear()
        stopwatch.tick(COOLDOWN)
        assert await keys.key("first") is not None


@no_keys
async def test_an_answer_that_is_no_key_set_counts_as_away(
    trouble: Trouble,
    http: aiohttp.ClientSession,
    supabase: SupabaseEmulator,
    stopwatch: Stopwatch,
) -> None:
    supabase.trouble["jwks"] = trouble
    async with caching(http, supabase, stopwatch) as keys:
        with pytest.raises(UnavailableError):
            await keys.key("first")


async def test_a_redirect_is_not_followed(
    http: aiohttp.ClientSession, supabase: SupabaseEmulator, stopwatch: Stopwatch
) -> None:
    elsewhere = SupabaseEmulator()
    async with elsewhere.serving() as url:
        target = {"Location": f"{url}/auth/v1/.well-known/jwks.json"}
        supabase.trouble["jwks"] = answering(status=302, headers=target)
        async with caching(http, supabase, stopwatch) as keys:
            with pytest.raises(UnavailableError):
                await keys.key("first")
    assert elsewhere.asked["jwks"] == 0


@no_keys
async def test_an_answer_that_is_no_key_set_takes_no_known_key_away(
    trouble: Trouble, keys: JwksCache, supabase: SupabaseEmulator, stopwatch: Stopwatch
) -> None:
    supabase.trouble["jwks"] = trouble
    stopwatch.tick(TTL)
    with pytest.raises(UnavailableError):
        await keys.key("unknown")
    assert await keys.key("first") is not None


RSA = rs256("rsa").jwk
P384 = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True)
UNUSABLE: dict[str, Any] = {
    "a shared secret": {"kid": "first", "kty": "oct", "alg": "HS256", "k": "c2VjcmV0" * 8},
    "a key for encryption": {**KEY, "use": "enc"},
    "a key that may not verify": {**KEY, "key_ops": ["sign"]},
    "another algorithm for elliptic curves": {**KEY, "alg": "ES384"},
    "another curve": {**P384, "kid": "first"},
    "another algorithm": {**RSA, "kid": "first", "alg": "RS512"},
    "an algorithm of another kind of key": {**RSA, "kid": "first", "alg": "ES256"},
    "a secret's algorithm": {**KEY, "alg": "HS256"},
    "a short RSA key": {**rs256("short", 1024).jwk, "kid": "first"},
    "no id": {name: value for name, value in KEY.items() if name != "kid"},
    "an id that is no text": {**KEY, "kid": 7},
    "no coordinates": {name: value for name, value in KEY.items() if name != "y"},
    "a point off the curve": {**KEY, "y": KEY["x"]},
    "no base64": {**KEY, "x": "!"},
    "an RSA key with exponent 1": {**RSA, "kid": "first", "e": "AQ"},
    "text": "first",
    "null": None,
}


@pytest.mark.parametrize("entry", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_an_unusable_key_is_passed_over(entry: Any) -> None:
    assert list(read_keys({"keys": [entry, es256("other").jwk]})) == ["other"]


def test_a_key_needs_to_say_no_more_than_it_must() -> None:
    bare = {name: KEY[name] for name in ("kid", "kty", "crv", "x", "y")}
    assert read_keys({"keys": [bare]})["first"].algorithm == "ES256"


def test_the_first_of_two_keys_with_one_id_counts() -> None:
    twice = read_keys({"keys": [KEY, {**RSA, "kid": "first"}]})
    assert [key.algorithm for key in twice.values()] == ["ES256"]


def test_a_private_part_is_not_kept() -> None:
    private = es256("first").private.private_numbers()
    assert isinstance(private, ec.EllipticCurvePrivateNumbers)
    published = read_keys({"keys": [{**KEY, "d": format(private.private_value, "x")}]})
    assert isinstance(published["first"].key.key, ec.EllipticCurvePublicKey)

"""The public keys of one issuer, kept at hand: a token whose key is known never waits for them."""

import asyncio
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import aiohttp
import jwt
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from ..errors import UnavailableError

MAX_ANSWER_BYTES = 256 << 10
MAX_KEYS = 64
MIN_RSA_BITS = 2048

Algorithm = Literal["ES256", "RS256"]
Monotonic = Callable[[], float]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SigningKey:
    """A public key, and the one algorithm that it is good for."""

    algorithm: Algorithm
    key: jwt.PyJWK


class _Key(BaseModel):
    """What is read of a key. Whatever else is in there, a private part too, is left out."""

    kid: str = Field(min_length=1)
    use: Literal["sig"] | None = None
    key_ops: list[str] | None = None


class _EcKey(_Key):
    kty: Literal["EC"]
    alg: Literal["ES256"] | None = None
    crv: Literal["P-256"]
    x: str
    y: str


class _RsaKey(_Key):
    kty: Literal["RSA"]
    alg: Literal["RS256"] | None = None
    n: str
    e: str


class _Document(BaseModel):
    keys: list[Any] = Field(max_length=MAX_KEYS)


_USABLE: TypeAdapter[_EcKey | _RsaKey] = TypeAdapter(
    Annotated[_EcKey | _RsaKey, Field(discriminator="kty")]
)


def read_keys(document: Any) -> Mapping[str, SigningKey]:
    """The keys of a JWKS that sign with ES256 or RS256, by their ids; others are passed over.

    ValueError when the document is no JWKS or has more than MAX_KEYS.
    """
    found: dict[str, SigningKey] = {}
    for entry in _Document.model_validate(document).keys:
        try:
            usable = _USABLE.validate_python(entry)
            key = _signing_key(usable)
        except (ValidationError, jwt.PyJWTError, ValueError):
            continue
        if key is not None:
            found.setdefault(usable.kid, key)
    return found


def _signing_key(usable: _EcKey | _RsaKey) -> SigningKey | None:
    if usable.key_ops is not None and "verify" not in usable.key_ops:
        return None
    algorithm: Algorithm = "ES256" if isinstance(usable, _EcKey) else "RS256"
    key = jwt.PyJWK(usable.model_dump(exclude_none=True), algorithm)
    if algorithm == "RS256" and key.key.key_size < MIN_RSA_BITS:
        return None
    return SigningKey(algorithm, key)


class JwksCache:
    """The keys at ``url``, fetched in the background.

    After ``ttl`` seconds they are fetched again while the known ones go on serving, for ``stale``
    seconds at most when that fails. A key that nobody knows is asked for at most every
    ``cooldown`` seconds, once for all who wait. Redirects are not followed.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        *,
        system: str,
        monotonic: Monotonic = time.monotonic,
        ttl: float = 600.0,
        stale: float = 3600.0,
        cooldown: float = 10.0,
        patience: float = 5.0,
    ) -> None:
        self._http = http
        self._url = url
        self._system = system
        self._monotonic = monotonic
        self._ttl, self._stale, self._cooldown = ttl, stale, cooldown
        self._timeout = aiohttp.ClientTimeout(total=patience)
        self._keys: Mapping[str, SigningKey] = {}
        self._fetched = self._tried = -math.inf
        self._failed = False
        self._fetching: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Fetch now and every ``ttl``, so that a key taken out does not outlive a quiet hour."""
        tasks = [asyncio.create_task(self._keep_fresh())]
        try:
            yield
        finally:
            if self._fetching is not None:
                tasks.append(self._fetching)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def key(self, kid: str) -> SigningKey | None:
        """The key of that id; None when the issuer has no such key.

        UnavailableError when that cannot be known: nothing was fetched for ``stale`` seconds, or
        the key is not among the known ones and the issuer did not answer when last asked.
        """
        age = self._age()
        known = self._keys.get(kid) if age < self._stale else None
        if known is not None:
            if age >= self._ttl:
                self._fetch_soon()
            return known
        fetching = self._fetch_soon()
        if fetching is not None:
            await asyncio.shield(fetching)  # others wait for it too
        fetched = self._keys.get(kid) if self._age() < self._stale else None
        if fetched is None and (self._failed or self._age() >= self._stale):
            raise UnavailableError(self._system, "The keys that tokens are signed with are away.")
        return fetched

    def _age(self) -> float:
        return self._monotonic() - self._fetched

    def _fetch_soon(self) -> "asyncio.Task[None] | None":
        """The fetch that is under way, begun now if it may be; None while it may not."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        if self._monotonic() - self._tried < self._cooldown:
            return None
        self._tried = self._monotonic()
        self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _keep_fresh(self) -> None:
        while True:
            fetching = self._fetch_soon()
            if fetching is not None:
                await asyncio.shield(fetching)
            await asyncio.sleep(self._cooldown if self._failed else self._ttl)

    async def _fetch(self) -> None:
        try:
            keys = read_keys(json.loads(await self._download()))
        except (
            aiohttp.ClientError,
            asyncio.TimeoutError,
            OSError,
            ValueError,
            RecursionError,
        ) as no:
            level = logging.DEBUG if self._failed else logging.WARNING
            extra = {"system": self._system, "reason": type(no).__name__}
            log.log(level, "identity.keys_not_fetched", extra=extra)
            self._failed = True
        else:
            self._keys, self._fetched, self._failed = keys, self._monotonic(), False

    async def _download(self) -> bytes:
        """The document; ValueError for an answer that is no document of sensible size."""
        async with self._http.get(
            self._url,
            timeout=self._timeout,
            allow_redirects=False,
            headers={"Accept-Encoding": "identity"},
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_chunked(1 << 14):
                body += chunk
                if response.status != 200 or len(body) > MAX_ANSWER_BYTES:
                    response.close()
                    raise ValueError("not a document of keys")
            return bytes(body)

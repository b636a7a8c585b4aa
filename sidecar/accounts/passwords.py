"""Passwords: argon2id, in threads of their own, so many at a time and no more."""

import asyncio
import secrets
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from ..errors import InvalidError, QuotaError

T = TypeVar("T")

MIN_LENGTH = 10
MAX_LENGTH = 1024
BUSY_SECONDS = 2


class Passwords:
    """Hashes and verifies. Each costs 64 MiB and some 50 ms with argon2-cffi's defaults.

    Both raise QuotaError("too_many_logins") when ``waiting`` others wait already.
    """

    def __init__(
        self, hasher: PasswordHasher | None = None, *, threads: int = 2, waiting: int = 16
    ) -> None:
        self._hasher = hasher or PasswordHasher()  # RFC 9106's second, low-memory choice
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="passwords")
        self._room = threading.BoundedSemaphore(threads + waiting)
        # in the pool, before anybody asks: starting need not wait for it
        self._nobodys = self._threads.submit(self._hasher.hash, secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        """Argon2's encoded form. InvalidError("invalid_password") for one that breaks the rules."""
        _check(password)
        return await self._in_pool(lambda: self._hasher.hash(_normal(password)))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether this is the password. None stands for nobody's, and costs the same."""
        return await self._in_pool(lambda: self._matches(stored, password))

    def is_outdated(self, stored: str) -> bool:
        """Whether it was hashed with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        """Let what is running end, and start nothing more."""
        self._threads.shutdown(cancel_futures=True)

    def _matches(self, stored: str | None, password: str) -> bool:
        try:
            self._hasher.verify(stored or self._nobodys.result(), _normal(password))
        except (VerifyMismatchError, InvalidHashError):
            return False
        return stored is not None

    async def _in_pool(self, work: Callable[[], T]) -> T:
        if not self._room.acquire(blocking=False):
            raise QuotaError(
                "too_many_logins",
                "Too many people sign in at this moment.",
                {"retry_after": BUSY_SECONDS},
            )
        job = self._threads.submit(work)
        # not when the caller leaves: a thread that runs cannot be stopped
        job.add_done_callback(lambda _: self._room.release())
        return await asyncio.wrap_future(job)


def _check(password: str) -> None:
    """Length alone, as NIST SP 800-63B has it: rules about characters make passwords worse."""
    expected = f"{MIN_LENGTH} to {MAX_LENGTH} characters"
    try:
        password.encode()
    except UnicodeEncodeError:
        expected = "text"
    else:
        if MIN_LENGTH <= len(password) <= MAX_LENGTH and "\0" not in password:
            return
    raise InvalidError(
        "invalid_password",
        f"A password has {MIN_LENGTH} to {MAX_LENGTH} characters.",
        {"fields": {"password": f"expected {expected}"}},
    )


def _normal(password: str) -> str:
    """One keyboard writes é as one character, another as two."""
    return unicodedata.normalize("NFC", password)

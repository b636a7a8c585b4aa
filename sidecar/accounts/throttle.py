"""How often somebody may try to sign in: counted before the password is looked at."""

import ipaddress
import math
from collections import OrderedDict, deque
from contextlib import suppress
from datetime import datetime, timedelta

from ..clock import Clock
from ..errors import QuotaError


class Attempt:
    """One attempt, which counts as failed until it is said to be something else."""

    def __init__(self, counts: "tuple[_Counts, _Counts]", keys: tuple[str, str], at: datetime):
        self._counts = counts
        self._keys = keys
        self._at = at
        for count, key in zip(counts, keys, strict=True):
            count.add(key, at)

    def succeeded(self) -> None:
        """The account starts anew, and the address has not failed."""
        self._counts[0].clear(self._keys[0])
        self._counts[1].take_back(self._keys[1], self._at)

    def never_was(self) -> None:
        """No password was looked at."""
        for count, key in zip(self._counts, self._keys, strict=True):
            count.take_back(key, self._at)


class LoginThrottle:
    """Failures per account and per address within the last minutes, in memory.

    A restart forgets them. An IPv6 address counts as its /64, which is one customer's. Of
    ``remembered`` names, those that tried longest ago are forgotten first.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        per_account: int = 5,
        per_address: int = 30,
        seconds: float = 300,
        remembered: int = 10_000,
    ) -> None:
        self._clock = clock
        window = timedelta(seconds=seconds)
        self._counts = (
            _Counts(per_account, window, remembered),
            _Counts(per_address, window, remembered),
        )

    def attempt(self, account: str, address: str) -> Attempt:
        """Count an attempt as failed. QuotaError("too_many_logins") counts nothing."""
        now, keys = self._clock.now(), (account, _customer(address))
        wait = max(
            count.wait(key, now) for count, key in zip(self._counts, keys, strict=True)
        ).total_seconds()
        if wait > 0:
            seconds = math.ceil(wait)
            raise QuotaError(
                "too_many_logins",
                f"Too many failed sign-ins; try again in {seconds} seconds.",
                {"retry_after": seconds},
            )
        return Attempt(self._counts, keys, now)


class _Counts:
    """When each name tried, within a window."""

    def __init__(self, limit: int, window: timedelta, remembered: int) -> None:
        self._limit = limit
        self._window = window
        self._remembered = remembered
        self._moments: OrderedDict[str, deque[datetime]] = OrderedDict()

    def wait(self, key: str, now: datetime) -> timedelta:
        """How long until it may try; nothing or less: now."""
        moments = self._moments.get(key, deque())
        # later than now: the computer's clock was set back
        while moments and not now - self._window < moments[0] <= now:
            moments.popleft()
        if len(moments) < self._limit:
            return timedelta()
        return moments[0] + self._window - now

    def add(self, key: str, at: datetime) -> None:
        self._moments.setdefault(key, deque()).append(at)
        self._moments.move_to_end(key)
        if len(self._moments) > self._remembered:
            self._moments.popitem(last=False)

    def take_back(self, key: str, at: datetime) -> None:
        if key in self._moments:
            with suppress(ValueError):  # too old: it is not remembered any more
                self._moments[key].remove(at)
            if not self._moments[key]:
                del self._moments[key]

    def clear(self, key: str) -> None:
        self._moments.pop(key, None)


def _customer(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed), 64), strict=False))
    return str(parsed)

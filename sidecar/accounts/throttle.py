"""How often somebody may try to sign in: counted before the password is looked at."""

import ipaddress
import math
from collections import OrderedDict, deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from ..clock import Clock
from ..errors import QuotaError


class Attempt:
    """One attempt, which counts as failed until it is said to be something else.

    ``counted`` is where, and under which name: first the account.
    """

    def __init__(self, counted: "Sequence[tuple[_Counts, str]]", at: datetime) -> None:
        self._counted = counted
        self._at = at
        self._is_judged = False
        for count, key in counted:
            count.add(key, at)

    def succeeded(self) -> None:
        """The account starts anew, and the address has not failed."""
        self._take_back()
        count, key = self._counted[0]
        count.clear(key)

    def was_judged(self) -> None:
        """The password was looked at and is wrong, whatever comes after that."""
        self._is_judged = True

    def never_was(self) -> None:
        """Nobody answered; it counts all the same where the password had been looked at."""
        if not self._is_judged:
            self._take_back()

    def _take_back(self) -> None:
        for count, key in self._counted:
            count.take_back(key, self._at)


class LoginThrottle:
    """Failures per account and per address within the last minutes, in memory.

    A restart forgets them. An IPv6 address counts as its /64, which is one customer's; one of this
    machine does not count: it is that of a tunnel or proxy, behind which everybody is. Of
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
        self._accounts = _Counts(per_account, window, remembered)
        self._addresses = _Counts(per_address, window, remembered)

    def attempt(self, account: str, address: str) -> Attempt:
        """Count an attempt as failed. QuotaError("too_many_logins") counts nothing."""
        now, counted = self._clock.now(), [(self._accounts, account)]
        customer = _customer(address)
        if customer is not None:
            counted.append((self._addresses, customer))
        wait = max(count.wait(key, now) for count, key in counted).total_seconds()
        if wait > 0:
            seconds = math.ceil(wait)
            raise QuotaError(
                "too_many_logins",
                f"Too many failed sign-ins; try again in {seconds} seconds.",
                {"retry_after": seconds},
            )
        return Attempt(counted, now)


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


def _customer(address: str) -> str | None:
    """Whose address it is; None for this machine's own."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if parsed.is_loopback:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(parsed), 64), strict=False))
    return str(parsed)

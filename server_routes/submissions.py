"""What the sidecar has handed over: the same submission twice is one prompt in the queue."""

import asyncio
from collections import OrderedDict

REMEMBERED = 100_000
"""More than any process of ComfyUI still has in queue and history (it keeps 10,000)."""


class Submissions:
    """The answers to accepted submissions, for the life of this process."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._accepted: OrderedDict[str, bytes] = OrderedDict()
        self._in_flight: dict[str, asyncio.Event] = {}

    async def accepted(self, key: str) -> bytes | None:
        """The answer that accepted ``key``; None makes the caller the one to submit it.

        Waits while another submits the same. Whoever got None calls ``done``, whatever happens.
        """
        while (other := self._in_flight.get(key)) is not None:
            await other.wait()
        if (answer := self._accepted.get(key)) is not None:
            return answer
        self._in_flight[key] = asyncio.Event()
        return None

    def done(self, key: str, answer: bytes | None) -> None:
        """It was accepted with this answer, or not (None): then it may be submitted again."""
        if answer is not None:
            self._accepted[key] = answer
            if len(self._accepted) > self._remembered:
                self._accepted.popitem(last=False)
        self._in_flight.pop(key).set()

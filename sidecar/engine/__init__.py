"""Durable execution: the port that the runs room talks to.

A run waits in our own table; once this pair has claimed it, the engine carries it through the
steps below and remembers, across any death of the process, how far it got.
"""

from enum import Enum
from typing import Protocol


class Go(str, Enum):
    """What a step tells the engine."""

    ON = "on"
    """The next step, please."""
    STOP = "stop"
    """The run has ended, or waits again in the queue: this attempt is over."""


class RunSteps(Protocol):
    """One attempt at a run, in this order. Every step may be carried out twice."""

    async def prepare(self, run_id: str, attempt: int) -> Go:
        """Put what the run needs on ComfyUI's disk."""

    async def submit(self, run_id: str, attempt: int) -> Go:
        """Have ComfyUI queue it, once."""

    async def follow(self, run_id: str, attempt: int) -> Go:
        """Wait until ComfyUI is done with it."""

    async def collect(self, run_id: str, attempt: int) -> Go:
        """Keep its outputs, and end it."""

    async def give_up(self, run_id: str, attempt: int, reason: str) -> None:
        """End the run as failed after a step raised what it could not handle."""


class Engine(Protocol):
    """Carries attempts through their steps."""

    async def start(self, run_id: str, attempt: int) -> bool:
        """Begin this attempt, or do nothing when it has begun already; False when it is over.

        After a restart, attempts that a crash interrupted go on by themselves.
        """

    async def forget(self, before_seconds: float) -> int:
        """Drop the records of attempts that ended so long ago; how many."""

"""Wakes whoever waits for news of a run, within this process."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID


class RunFeed:
    """``changed`` after a commit; listeners then read the rows, which are the truth."""

    def __init__(self) -> None:
        self.is_closed = False
        """The sidecar stops: whoever listens shall go."""
        self._listeners: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)

    def changed(self, run_id: UUID) -> None:
        """Wake the listeners of this run."""
        for listener in self._listeners.get(run_id, ()):
            listener.set()

    def close(self) -> None:
        """Wake everybody, for the last time."""
        self.is_closed = True
        for run_id in list(self._listeners):
            self.changed(run_id)

    @contextmanager
    def listening(self, run_id: UUID) -> Iterator[asyncio.Event]:
        """An event that is set at every change; the listener clears it before it looks."""
        listener = asyncio.Event()
        self._listeners[run_id].add(listener)
        try:
            yield listener
        finally:
            self._listeners[run_id].discard(listener)
            if not self._listeners[run_id]:
                del self._listeners[run_id]

"""Time that the test owns."""

from datetime import datetime, timedelta, timezone


class FakeClock:
    """Starts at noon on 1 January 2026, UTC."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)

    def now(self) -> datetime:
        """The moment it stands at."""
        return self._now

    def tick(self, seconds: float = 1.0) -> None:
        """Move on."""
        self._now += timedelta(seconds=seconds)

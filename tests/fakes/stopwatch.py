"""A monotonic clock that the test owns."""


class Stopwatch:
    """Stands in for ``time.monotonic``."""

    def __init__(self) -> None:
        self._seconds = 1000.0

    def __call__(self) -> float:
        """Seconds since some moment."""
        return self._seconds

    def tick(self, seconds: float) -> None:
        """Move on."""
        self._seconds += seconds

"""Figures as the benchmarks print them: medians with their quartiles, and where they were taken."""

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

_NAME_WIDTH = 46


@dataclass(frozen=True)
class Sample:
    """Measurements of one thing, in one unit; there is at least one."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Half of the measurements lie between these two."""
        if len(self.values) < 2:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    def text(self, unit: str, digits: int = 1) -> str:
        """``12.3 ms (11.0 to 14.2)``."""
        low, high = self.quartiles
        return f"{self.median:9.{digits}f} {unit} ({low:.{digits}f} to {high:.{digits}f})"


def pairwise(numerators: Sample, denominators: Sample) -> Sample:
    """The ratio of each pair that was measured one right after the other."""
    pairs = zip(numerators.values, denominators.values, strict=True)
    return Sample([above / below for above, below in pairs])


def row(name: str, figure: str, note: str = "") -> None:
    """Print one line of a table."""
    print(f"  {name:<{_NAME_WIDTH}}{figure}{'   ' + note if note else ''}", flush=True)


def title(text: str) -> None:
    """Print what the rows below are about."""
    print(f"\n{text}", flush=True)


def machine() -> str:
    """The machine and what it runs, in one line; the load tells whether it had other work."""
    cores = os.cpu_count() or 1
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"machine: {_processor()}, {cores} cores, {platform.system()}, "
        f"Python {platform.python_version()}, aiohttp {aiohttp.__version__}{load}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

"""Syncs that are interrupted never show ComfyUI a corrupt file.

``benchmarks/interrupted_syncs.py --times 1000`` does the same for longer.
"""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "interrupted_syncs.py"


def test_no_corrupt_file_is_ever_listed() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--times", "24"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no corrupt file was ever listed" in done.stdout

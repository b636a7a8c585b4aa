"""What ComfyUI-Manager runs after unpacking: the dependencies, and nothing else."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent / "requirements.txt"


def command() -> list[str]:
    """The installer for the interpreter that runs this file; SystemExit where there is none."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "-r", str(REQUIREMENTS)]
    # environments made by uv, ComfyUI Desktop's among them, have no pip
    if (uv := shutil.which("uv")) is not None:
        return [uv, "pip", "install", "--python", sys.executable, "-r", str(REQUIREMENTS)]
    raise SystemExit(
        f"Atelier: neither pip (for {sys.executable}) nor uv can install {REQUIREMENTS.name}."
    )


def main() -> None:
    """Install; SystemExit with one clear line when that fails."""
    done = subprocess.run(command(), check=False)  # noqa: S603 - our own command line
    if done.returncode != 0:
        raise SystemExit(
            f"Atelier: its dependencies could not be installed (exit code {done.returncode}). "
            f"Run this by hand to see why: {' '.join(command())}"
        )


if __name__ == "__main__":
    main()

"""``python -m sidecar.comfyui.stand_in``: the stand-in as a process of its own."""

import argparse
import asyncio
import contextlib
from pathlib import Path

from .server import StandIn, serving


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m sidecar.comfyui.stand_in",
        description="A stand-in for ComfyUI: its API, without models. Draws patterns.",
    )
    parser.add_argument("--port", type=int, default=8188, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--base-dir", type=Path, required=True, help="output, input, temp")
    parser.add_argument("--loras-dir", type=Path, required=True)
    parser.add_argument("--step-seconds", type=float, default=0.0, help="for each sampling step")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(options))


async def _serve(options: argparse.Namespace) -> None:
    stand_in = StandIn(options.base_dir, options.loras_dir, step_seconds=options.step_seconds)
    async with serving(stand_in, options.port, host=options.host) as url:
        print(f"ComfyUI stand-in listening on {url}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    main()

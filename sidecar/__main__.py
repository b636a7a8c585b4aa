"""The command line: ``python -m sidecar serve|demo``."""

import argparse
import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

from . import __version__
from .demo import demo
from .errors import AtelierError
from .serving import log_to_stderr, serve
from .settings import read_settings


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code. One clear line says why it could not be done."""
    asked = _parser().parse_args(arguments)
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(_run(asked))
    except AtelierError as error:
        print(f"atelier: {error.message}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"atelier: {error}", file=sys.stderr)
        return 1
    return 0


async def _run(asked: argparse.Namespace) -> None:
    if asked.command == "demo":
        await demo(asked.comfyui, asked.loras_dir, once=asked.once, port=asked.port)
        return
    settings = read_settings(os.environ)
    log_to_stderr(settings.log_level)
    await serve(settings, child=getattr(asked, "child", False))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sidecar", description="Atelier's sidecar: workflows, LoRAs and runs for one ComfyUI."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command")
    served = commands.add_parser("serve", help="serve until stopped (the default)")
    served.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    shown = commands.add_parser("demo", help="the whole main job, in a temporary folder")
    shown.add_argument("--once", action="store_true", help="exit when the picture is there")
    shown.add_argument("--comfyui", metavar="URL", help="a real ComfyUI instead of the stand-in")
    shown.add_argument("--loras-dir", metavar="DIR", type=Path, help="that ComfyUI's LoRA folder")
    shown.add_argument("--port", type=int, default=8190, help="where to listen (0: a free port)")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""The command line: ``python -m sidecar serve|demo|users|migrate|doctor|copy|sweep``."""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TextIO

from . import __version__
from .commands import copy, doctor, migrate, sweep, users
from .demo import demo
from .errors import AtelierError
from .serving import log_to_stderr, serve
from .settings import Settings, read_settings


class Command(Protocol):
    """A module of ``commands/``."""

    def add_to(self, commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
        """Add it to the parser's commands."""

    async def run(self, asked: argparse.Namespace, settings: Settings, out: TextIO) -> int:
        """Carry it out; its exit code. AtelierError when it cannot be done."""


COMMANDS: Mapping[str, Command] = {
    "users": users,
    "migrate": migrate,
    "doctor": doctor,
    "copy": copy,
    "sweep": sweep,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code. One clear line says why it could not be done."""
    asked = _parser().parse_args(arguments)
    if sys.platform == "win32":
        # psycopg cannot wait on the loop that is Windows' default, which is only better at
        # subprocesses: the sidecar has none
        asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())
    try:
        return asyncio.run(_run(asked))
    except KeyboardInterrupt:
        return (
            0 if asked.command == "demo" else 130
        )  # a command that was broken off did not succeed
    except AtelierError as error:
        print(f"atelier: {error.message}", file=sys.stderr)
    except OSError as error:
        print(f"atelier: {error}", file=sys.stderr)
    return 1


async def _run(asked: argparse.Namespace) -> int:
    if asked.command == "demo":
        await demo(asked.comfyui, asked.loras_dir, once=asked.once, port=asked.port)
        return 0
    settings = read_settings(os.environ)
    if asked.command in (None, "serve"):
        log_to_stderr(settings.log_level)
        await serve(settings, child=getattr(asked, "child", False))
        return 0
    log_to_stderr("warning")
    return await COMMANDS[asked.command].run(asked, settings, sys.stdout)


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
    for command in COMMANDS.values():
        command.add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""One command of ``python -m sidecar``, with real arguments, in this process."""

import argparse
import io
from typing import Protocol, TextIO

from sidecar.settings import Settings, read_settings


class Command(Protocol):
    """A module of ``sidecar/commands``."""

    def add_to(self, commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
        """Add it to the parser's commands."""

    async def run(self, asked: argparse.Namespace, settings: Settings, out: TextIO) -> int:
        """Carry it out; its exit code."""


async def carried_out(
    command: Command, arguments: str, environment: dict[str, object]
) -> tuple[int, str]:
    """Its exit code and what it printed."""
    parser = argparse.ArgumentParser()
    command.add_to(parser.add_subparsers())
    settings = read_settings({name: str(value) for name, value in environment.items()})
    out = io.StringIO()
    code = await command.run(parser.parse_args(arguments.split()), settings, out)
    return code, out.getvalue()

"""Ports for servers that cannot take port 0 and say which they got."""

import random
import socket
from contextlib import ExitStack

HOST = "127.0.0.1"
PORTS = range(15000, 32000)
"""Below those that the kernel gives to others at any moment."""


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """So many different ones."""
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            probe = held.enter_context(socket.socket())
            port = random.choice(PORTS)  # noqa: S311 - a port is no secret
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            found.append(port)
    return found

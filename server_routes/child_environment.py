"""What the sidecar is told about the ComfyUI that starts it. The user's own settings come first."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from .address import LAUNCHED, TOKEN, URL


@dataclass(frozen=True)
class Host:
    """The ComfyUI around us: what it listens on (as its ``--listen`` says) and its folders."""

    listen: str
    port: int
    tls: bool
    loras: Path
    user: Path


def new_token() -> str:
    """A secret for this process and its sidecar."""
    return secrets.token_urlsafe(32)


def child_environment(host: Host, token: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of the child. An empty variable counts as not set, as it does there."""
    child = {name: value for name, value in environment.items() if name not in (URL, LAUNCHED)}
    if not child.get("COMFYUI_URL"):
        scheme = "https" if host.tls else "http"
        child["COMFYUI_URL"] = f"{scheme}://{reachable(host.listen)}:{host.port}"
        if host.tls and not child.get("COMFYUI_VERIFY_TLS"):
            # its certificate names the machine as others see it, not the loopback address
            child["COMFYUI_VERIFY_TLS"] = "false"
    defaults = {
        "COMFYUI_LORAS_DIR": str(host.loras),
        "ATELIER_DATA_DIR": str(host.user / "atelier"),
        "ATELIER_PORT": "0",
    }
    child.update({name: value for name, value in defaults.items() if not child.get(name)})
    child[TOKEN] = token
    return child


def reachable(listen: str) -> str:
    """Where a process on this machine reaches a server that listens on these addresses.

    A comma list, as ComfyUI has it; an IPv6 address comes back in brackets.
    """
    addresses = [part.strip().strip("[]") for part in listen.split(",") if part.strip()]
    if not addresses or "0.0.0.0" in addresses:  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    if "::" in addresses:
        return "[::1]"
    chosen = next((each for each in addresses if _is_loopback(each)), addresses[0])
    return f"[{chosen}]" if ":" in chosen else chosen


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"

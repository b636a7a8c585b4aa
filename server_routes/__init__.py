"""The island inside ComfyUI's server: forwarding, admission, and the sidecar's launch."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web

from .address import SidecarAddress
from .admission import Admission
from .child import Start, sidecar_command
from .child_environment import Host, child_environment, new_token, reachable
from .forward import Forwarder
from .launcher import Launcher

if TYPE_CHECKING:
    from server import PromptServer


def register() -> None:
    """Wire everything onto ComfyUI's server. Called once, while ComfyUI loads its packs."""
    from server import PromptServer

    host = PromptServer.instance
    address = SidecarAddress.chosen_by_user()
    launcher = None
    if address is None:
        address = SidecarAddress(new_token())
        launcher = Launcher(address, lambda: start_of(_comfyui(), address.token or ""))
    wire(host, address, launcher)


def wire(server: "PromptServer", address: SidecarAddress, launcher: Launcher | None) -> None:
    """Put route, middlewares and prompt handler onto ``server``; the launcher starts with it."""
    session = ClientSession(
        connector=TCPConnector(limit=0),
        cookie_jar=DummyCookieJar(),
        timeout=ClientTimeout(total=None, sock_connect=5),
        auto_decompress=False,
    )
    forwarder = Forwarder(address, session)
    admission = Admission(address, session, server)
    forwarder.add_to(server.app.router)
    server.add_on_prompt_handler(admission.on_prompt)

    async def on_startup(app: web.Application) -> None:
        # Every pack has loaded: now the places are final. Other packs change a prompt after us,
        # as they did before; admission stands right before ComfyUI's handler, behind its own check
        # of the Origin and whatever other packs refuse.
        app.middlewares.insert(0, forwarder.options)
        app.middlewares.append(admission.middleware)
        handlers = server.on_prompt_handlers
        handlers.insert(0, handlers.pop(handlers.index(admission.on_prompt)))
        if launcher is not None:
            launcher.start()

    async def on_cleanup(_app: web.Application) -> None:
        await session.close()

    server.app.on_startup.append(on_startup)
    server.app.on_cleanup.append(on_cleanup)


def start_of(host: Host, token: str) -> Start:
    """How the sidecar of this ComfyUI is started."""
    return Start(
        command=(*sidecar_command(), "serve", "--child"),
        environment=child_environment(host, token, os.environ),
        host=reachable(os.environ.get("ATELIER_HOST") or "127.0.0.1"),
    )


def _comfyui() -> Host:
    import folder_paths
    from comfy.cli_args import args

    return Host(
        listen=args.listen,
        port=args.port,
        tls=bool(args.tls_keyfile and args.tls_certfile),
        loras=Path(folder_paths.get_folder_paths("loras")[0]).absolute(),
        user=Path(folder_paths.get_user_directory()).absolute(),
    )

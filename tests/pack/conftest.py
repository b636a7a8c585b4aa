"""A ComfyUI with the pack's routes in it, and a sidecar that the test writes."""

import importlib.util
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from aiohttp import ClientSession
from server import PromptServer  # noqa: TID253 -- the fake
from wired_pack import TOKEN, Sidecar, Wired, listening

from server_routes import wire
from server_routes.address import SidecarAddress


@pytest.fixture
async def sidecar() -> Sidecar:
    """A sidecar that does not listen yet."""
    return Sidecar()


@pytest.fixture
async def wired(sidecar: Sidecar) -> AsyncIterator[Wired]:
    """A ComfyUI whose sidecar that is; its own limit for uploads is 1 MiB."""
    host = PromptServer(max_upload_bytes=1 << 20)
    address = SidecarAddress(TOKEN, {})
    wire(host, address, None)
    host.add_routes()
    async with listening(sidecar.app) as sidecar_port, listening(host.app) as port:
        address.arrived(f"http://127.0.0.1:{sidecar_port}")
        base = f"http://127.0.0.1:{port}"
        async with ClientSession(base, auto_decompress=False) as client:
            yield Wired(host, address, client, port)


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pack(tmp_path: Path) -> Iterator[ModuleType]:
    """The pack, loaded as ComfyUI does: from a folder of the user's naming, named by its path."""
    folder = tmp_path / "custom nodes" / "Atelier-Pack.v1"
    for island in ("nodes", "server_routes"):
        shutil.copytree(ROOT / island, folder / island)
    shutil.copy(ROOT / "__init__.py", folder)
    name = str(folder).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    for loaded in [each for each in sys.modules if each.startswith(name)]:
        del sys.modules[loaded]

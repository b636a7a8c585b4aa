"""ComfyUI's command line."""

from types import SimpleNamespace
from typing import Any

args: Any = SimpleNamespace(listen="127.0.0.1", port=8188, tls_keyfile=None, tls_certfile=None)

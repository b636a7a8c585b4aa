"""The pack in a real ComfyUI where people sign in, and whose sidecar dies."""

import os
import signal
import sys

import pytest
from comfyui_server import ComfyUIServer
from pack_in_comfyui import API, ComfyUIsWithPack, ask, sidecar_pid, wait_for
from sample_graphs import txt2img

pytestmark = [
    pytest.mark.comfyui,
    pytest.mark.skipif(sys.platform != "linux", reason="the sidecar's process is found in /proc"),
]


def asks_to_sign_in(server: ComfyUIServer) -> bool:
    """Whether its sidecar answers."""
    return ask(server, "GET", f"{API}/loras")[0] == 401


def test_while_the_sidecar_is_away_a_stranger_runs_nothing(
    start_with_pack: ComfyUIsWithPack,
) -> None:
    comfyui = start_with_pack(ATELIER_AUTH="local")
    stranger = {"prompt": txt2img(), "prompt_id": "5a5a0000-0000-4000-8000-000000000000"}
    wait_for(comfyui, lambda: asks_to_sign_in(comfyui))
    assert ask(comfyui, "POST", "/prompt", stranger)[0] == 401

    os.kill(sidecar_pid(comfyui), signal.SIGKILL)
    wait_for(comfyui, lambda: ask(comfyui, "GET", f"{API}/loras")[0] == 503)
    status, answer = ask(comfyui, "POST", "/api/prompt", stranger)

    assert (status, answer["error"]["type"]) == (503, "sidecar_unavailable")
    assert ask(comfyui, "GET", "/history") == (200, {})
    wait_for(comfyui, lambda: asks_to_sign_in(comfyui))
    assert ask(comfyui, "POST", "/prompt", stranger)[0] == 401
    assert "ComfyUI refuses prompts until then" in comfyui.log()

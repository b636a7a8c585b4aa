"""What the launched sidecar is told."""

from pathlib import Path

import pytest

from server_routes.address import SidecarAddress
from server_routes.child_environment import Host, child_environment, new_token, reachable

HOST = Host(listen="127.0.0.1", port=8188, tls=False, loras=Path("/m/loras"), user=Path("/c/user"))


def test_it_learns_comfyuis_url_folders_and_token() -> None:
    child = child_environment(HOST, "t", {"PATH": "/bin"})

    assert child == {
        "PATH": "/bin",
        "COMFYUI_URL": "http://127.0.0.1:8188",
        "COMFYUI_LORAS_DIR": str(Path("/m/loras")),
        "ATELIER_DATA_DIR": str(Path("/c/user/atelier")),
        "ATELIER_PORT": "0",
        "ATELIER_PACK_TOKEN": "t",
    }


def test_what_the_user_set_stays_but_the_token_is_ours() -> None:
    mine = {
        "COMFYUI_URL": "http://proxy:80",
        "COMFYUI_LORAS_DIR": "/l",
        "ATELIER_DATA_DIR": "/d",
        "ATELIER_PORT": "8190",
    }

    child = child_environment(HOST, "t", {**mine, "ATELIER_PACK_TOKEN": "old"})

    assert child == {**mine, "ATELIER_PACK_TOKEN": "t"}


def test_an_empty_variable_counts_as_not_set() -> None:
    assert child_environment(HOST, "t", {"ATELIER_PORT": ""})["ATELIER_PORT"] == "0"


def test_comfyuis_own_certificate_is_not_checked() -> None:
    host = Host(listen="", port=443, tls=True, loras=HOST.loras, user=HOST.user)

    child = child_environment(host, "t", {})

    assert child["COMFYUI_URL"] == "https://127.0.0.1:443"
    assert child["COMFYUI_VERIFY_TLS"] == "false"


@pytest.mark.parametrize(
    ("listen", "where"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0,::", "127.0.0.1"),
        ("::", "[::1]"),
        ("::1", "[::1]"),
        ("192.168.1.5", "192.168.1.5"),
        ("192.168.1.5, 127.2.2.2", "127.2.2.2"),
        ("localhost", "localhost"),
        ("", "127.0.0.1"),
    ],
)
def test_a_listening_address_becomes_one_to_connect_to(listen: str, where: str) -> None:
    assert reachable(listen) == where


def test_each_token_is_fresh_and_long() -> None:
    assert len(new_token()) >= 32
    assert new_token() != new_token()


def test_a_sidecar_of_the_users_own_is_used_with_its_token() -> None:
    address = SidecarAddress.chosen_by_user(
        {"ATELIER_SIDECAR_URL": "http://studio:8190/", "ATELIER_PACK_TOKEN": "theirs"}
    )

    assert address is not None
    assert (address.url, address.token) == ("http://studio:8190", "theirs")


def test_what_a_previous_comfyui_announced_is_not_taken_for_the_users_choice() -> None:
    inherited: dict[str, str] = {}
    SidecarAddress("t", inherited).arrived("http://127.0.0.1:4711")

    assert SidecarAddress.chosen_by_user(inherited) is None
    assert SidecarAddress.chosen_by_user({}) is None

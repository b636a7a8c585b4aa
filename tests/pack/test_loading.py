"""Loading as ComfyUI does it, from a folder of any name."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from server import PromptServer, answers_options  # noqa: TID253 -- the fake

ROOT = Path(__file__).resolve().parents[2]


async def test_the_pack_hands_over_its_nodes_and_wires_its_routes(
    pack: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATELIER_SIDECAR_URL", "http://127.0.0.1:9")
    host = PromptServer()

    extension = await pack.comfy_entrypoint()

    node_ids = [node.define_schema().node_id for node in await extension.get_node_list()]
    assert node_ids == ["UserLoraLoader", "UserLoraLoaderModelOnly"]
    served = {resource.canonical for resource in host.app.router.resources()}
    assert {"/v1/comfyui/{tail}", "/api/v1/comfyui/{tail}"} <= served
    for cleanup in host.app.on_cleanup:
        await cleanup(host.app)


async def test_its_place_does_not_depend_on_when_it_loads(
    pack: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATELIER_SIDECAR_URL", "http://127.0.0.1:9")
    host = PromptServer()
    host.add_on_prompt_handler(dict)
    await pack.comfy_entrypoint()

    host.app.middlewares.append(answers_options)
    for startup in host.app.on_startup:
        await startup(host.app)

    names = [getattr(each, "__name__", "") for each in host.app.middlewares]
    assert names == ["options", "answers_options", "answers_options", "middleware"]
    assert [each.__name__ for each in host.on_prompt_handlers] == ["on_prompt", "dict"]
    for cleanup in host.app.on_cleanup:
        await cleanup(host.app)


def test_the_pack_leaves_the_v3_door_to_comfyui(pack: ModuleType) -> None:
    assert not hasattr(pack, "NODE_CLASS_MAPPINGS")


def test_every_module_lives_under_the_packs_path(pack: ModuleType) -> None:
    assert " " in pack.__name__
    assert "_x_" in pack.__name__


def test_the_root_module_loads_without_comfyui() -> None:
    code = "import importlib.util as u, sys; s = u.spec_from_file_location('p', sys.argv[1]); "
    code += "s.loader.exec_module(u.module_from_spec(s)); sys.exit('server' in sys.modules)"

    subprocess.run([sys.executable, "-I", "-c", code, str(ROOT / "__init__.py")], check=True)


def test_a_failed_installation_ends_with_one_clear_line(tmp_path: Path) -> None:
    shutil.copy(ROOT / "install.py", tmp_path)
    (tmp_path / "requirements.txt").write_text("-r missing.txt\n", encoding="utf-8")

    done = subprocess.run(
        [sys.executable, str(tmp_path / "install.py")], capture_output=True, text=True, check=False
    )

    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].startswith("Atelier: its dependencies could not")


@pytest.mark.parametrize("isolated", [True, False])
def test_the_sidecar_is_found_from_any_folder(tmp_path: Path, isolated: bool) -> None:
    pack_folder = tmp_path / "My Pack - v1.2"
    (pack_folder / "sidecar").mkdir(parents=True)
    main = "import sys; from . import names; print(names.NAME, sys.argv[1:])"
    (pack_folder / "sidecar" / "__init__.py").touch()
    (pack_folder / "sidecar" / "names.py").write_text("NAME = 'found'", encoding="utf-8")
    (pack_folder / "sidecar" / "__main__.py").write_text(main, encoding="utf-8")
    shutil.copytree(ROOT / "server_routes", pack_folder / "server_routes")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "sidecar").mkdir(parents=True)  # must not win over the pack's
    ask = "import sys; sys.path.insert(0, sys.argv[1]); from server_routes import child; "
    ask += "import subprocess; subprocess.run([*child.sidecar_command(), 'serve'], check=True)"

    done = subprocess.run(
        [sys.executable, *(["-I"] if isolated else []), "-c", ask, str(pack_folder)],
        cwd=elsewhere,
        env={**os.environ},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == "found ['serve']"

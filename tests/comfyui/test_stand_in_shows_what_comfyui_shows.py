"""The stand-in held to the real ComfyUI: files out and in, lists, and node descriptions."""

from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from comfyui_pair import Pair, differences, input_spec
from yarl import URL

pytestmark = pytest.mark.comfyui


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?filename=",
        "?filename=nothing.png",
        "?filename=view.txt",
        "?filename=view.html",
        "?filename=view.webp",
        "?filename=view.png&type=input",
        "?filename=view.txt&type=nowhere",
        "?filename=view.txt%20[output]",
        "?filename=view.txt[output]&type=input",
        "?filename=../view.txt",
        "?filename=/etc/passwd",
        "?filename=view.txt&subfolder=../..",
        "?filename=view.txt&subfolder=.",
        "?filename=sub/view.txt",
        "?filename=view.txt&subfolder=sub",
    ],
)
async def test_view_answers_the_same(pair: Pair, query: str) -> None:
    answers = []
    for server in pair:
        (server.base / "output" / "sub").mkdir(parents=True, exist_ok=True)
        for name in ("view.txt", "view.html", "view.webp", "sub/view.txt"):
            (server.base / "output" / name).write_bytes(name.encode())
        url = URL(f"{server.url}/view{query}")
        async with server.session.get(url) as answer:
            content = await answer.read() if answer.status == 200 else b""
            named = ("Content-Type", "Content-Disposition") if answer.status == 200 else ()
            answers.append((answer.status, content, [answer.headers.get(name) for name in named]))
    assert answers[1] == answers[0]


async def test_view_sends_ranges_the_same_way(pair: Pair) -> None:
    answers = []
    for server in pair:
        (server.base / "output" / "range.bin").write_bytes(bytes(range(100)))
        url = f"{server.url}/view?filename=range.bin"
        async with server.session.get(url, headers={"Range": "bytes=10-19"}) as answer:
            answers.append((answer.status, await answer.read(), answer.headers["Content-Range"]))
    assert answers[1] == answers[0]


UPLOADS: list[tuple[str, bytes, dict[str, str]]] = [
    ("a.png", b"one", {}),
    ("a.png", b"one", {}),
    ("a.png", b"two", {}),
    ("a.png", b"three", {"overwrite": "true"}),
    ("b.png", b"one", {"subfolder": "deep/er", "type": "output"}),
    ("c.png", b"one", {"type": "temp"}),
    ("../c.png", b"one", {}),
    ("c.png", b"one", {"subfolder": "../.."}),
    ("c.png", b"one", {"type": "nowhere"}),
]


async def test_uploads_are_named_the_same_way(pair: Pair) -> None:
    folder = uuid4().hex
    for name, content, fields in UPLOADS:
        answers = []
        for server in pair:
            form = aiohttp.FormData({"subfolder": folder, **fields})
            form.add_field("image", content, filename=name)
            answers.append(await server.ask("POST", "/upload/image", data=form))
        assert answers[1] == answers[0], (name, fields)


async def test_an_upload_without_an_image_is_refused_the_same_way(pair: Pair) -> None:
    form = {"type": "input"}
    real, stand_in = await pair.both("POST", "/upload/image", data=form)
    assert stand_in == real


async def test_models_are_listed_the_same_way(pair: Pair) -> None:
    for folder in ("loras", "checkpoints", "nowhere"):
        real, stand_in = await pair.both("GET", f"/models/{folder}")
        assert stand_in == real


async def test_every_route_is_served_below_api_too(pair: Pair) -> None:
    for path in ("/queue", "/prompt", "/history", "/models/loras", "/object_info/SaveImage"):
        real, stand_in = await pair.both("GET", f"/api{path}")
        assert (real[0], stand_in[0]) == (200, 200), path


def _described(info: dict[str, Any]) -> dict[str, Any]:
    inputs = {
        kind: {name: input_spec(spec) if kind != "hidden" else spec for name, spec in named.items()}
        for kind, named in info["input"].items()
    }
    same = ("input_order", "output", "output_is_list", "output_name", "name", "output_node")
    return {"input": inputs, **{name: info[name] for name in (*same, "category", "display_name")}}


async def test_core_nodes_are_described_the_same_way(pair: Pair) -> None:
    (_, real), (_, stand_in) = await pair.both("GET", "/object_info")
    common = sorted(real.keys() & stand_in.keys())
    assert len(common) >= 12
    for name in common:
        assert differences(_described(real[name]), _described(stand_in[name])) == []


async def test_the_stand_in_has_no_choice_that_comfyui_lacks(pair: Pair) -> None:
    (_, real), (_, stand_in) = await pair.both("GET", "/object_info")
    for name in real.keys() & stand_in.keys():
        for key, spec in stand_in[name]["input"]["required"].items():
            if isinstance(spec[0], list):
                assert set(spec[0]) <= set(real[name]["input"]["required"][key][0]), (name, key)


async def test_one_class_is_described_as_among_all(pair: Pair) -> None:
    real, stand_in = await pair.both("GET", "/object_info/Nowhere")
    assert stand_in == real
    for server in pair:
        _, one = await server.ask("GET", "/object_info/KSampler")
        _, every = await server.ask("GET", "/object_info")
        assert one == {"KSampler": every["KSampler"]}


async def test_system_stats_have_what_is_read_from_them(pair: Pair) -> None:
    for _, stats in await pair.both("GET", "/system_stats"):
        assert stats["system"].keys() >= {"os", "comfyui_version", "python_version", "argv"}

"""The stand-in held to the real ComfyUI: prompts, good and bad, and what they leave behind."""

import copy
import json
import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from comfyui_pair import Pair, Prompt, Server, differences, new_prompt
from safetensors_files import lora_bytes, pack, tensor
from sample_graphs import txt2img

pytestmark = pytest.mark.comfyui


def _change(**inputs: Any) -> Callable[[Prompt], None]:
    """Changes inputs, each named ``n<node>_<input>``."""

    def change(prompt: Prompt) -> None:
        for name, value in inputs.items():
            node, _, key = name[1:].partition("_")
            prompt[node]["inputs"][key] = value

    return change


def _drop(node: str, name: str) -> Callable[[Prompt], None]:
    return lambda prompt: prompt[node]["inputs"].pop(name)


def _add(node: str, class_type: str, **inputs: Any) -> Callable[[Prompt], None]:
    def add(prompt: Prompt) -> None:
        prompt[node] = {"class_type": class_type, "inputs": inputs}

    return add


def _two_bad_loras(prompt: Prompt) -> None:
    _change(n2_lora_name="x", n2_strength_model=101, n2_strength_clip="much")(prompt)


def _one_good_one_bad(prompt: Prompt) -> None:
    _add("9", "EmptyLatentImage", width=1, height=64, batch_size=1)(prompt)
    _add("10", "VAEDecode", samples=["9", 0], vae=["1", 2])(prompt)
    _add("11", "PreviewImage", images=["10", 0])(prompt)


REFUSED: dict[str, Callable[[Prompt], Any]] = {
    "lora not listed": _change(n2_lora_name="nowhere.safetensors"),
    "lora a number": _change(n2_lora_name=5),
    "lora null": _change(n2_lora_name=None),
    "lora empty": _change(n2_lora_name=""),
    "lora of 300 letters": _change(n2_lora_name="x" * 300),
    "checkpoint not listed": _change(n1_ckpt_name="missing.safetensors"),
    "sampler not listed": _change(n6_sampler_name="magic"),
    "too small": _change(n5_width=0),
    "too big": _change(n6_steps=10_001),
    "seed too big": _change(n6_seed=2**64),
    "not a number": _change(n6_steps="many"),
    "null number": _change(n6_cfg=None),
    "object for a number": _change(n6_cfg={"a": 1}),
    "NaN as text": _change(n6_steps="NaN"),
    "several errors in a node": _two_bad_loras,
    "missing input": _drop("6", "seed"),
    "missing link": _drop("7", "samples"),
    "link to nowhere": _change(n7_samples=["99", 0]),
    "link to a number": _change(n7_samples=[6, 0]),
    "link of three": _change(n7_samples=["6", 0, 0]),
    "link of one": _change(n7_samples=["6"]),
    "link past the outputs": _change(n7_samples=["6", 5]),
    "link with a text index": _change(n7_samples=["6", "0"]),
    "link of the wrong type": _change(n7_samples=["1", 0]),
    "link where a value belongs": _change(n6_seed=["1", 0]),
    "node without class_type": lambda prompt: prompt["3"].pop("class_type"),
    "unknown class": lambda prompt: prompt["3"].update(class_type="Nope"),
    "class_type null": lambda prompt: prompt["3"].update(class_type=None),
    "needed node without inputs": lambda prompt: prompt["3"].pop("inputs"),
    "no outputs": lambda prompt: prompt.pop("8"),
    "empty": lambda prompt: prompt.clear(),
    "no prefix": _drop("8", "filename_prefix"),
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED.keys())
async def test_refusals_are_the_same(pair: Pair, change: Callable[[Prompt], Any]) -> None:
    prompt = new_prompt()
    change(prompt)
    real, stand_in = await pair.run(prompt, client_id="me")
    assert differences(real, stand_in) == []
    assert real[0] == 400


BODIES: dict[str, Any] = {
    "no prompt": {},
    "prompt null": {"prompt": None},
    "prompt a list": {"prompt": []},
    "prompt a list of texts": {"prompt": ["a"]},
    "prompt a text": {"prompt": "abc"},
    "node a text": {"prompt": {"1": "abc"}},
    "node null": {"prompt": {"1": None}},
    "class_type a list": {"prompt": {"1": {"class_type": [], "inputs": {}}}},
    "a list": [],
    "a number": 5,
    "number a word": {"prompt": {}, "number": "abc"},
    "targets a number": {"prompt": txt2img(), "partial_execution_targets": 5},
    "targets unknown": {"prompt": txt2img(), "partial_execution_targets": ["99"]},
    "no targets": {"prompt": txt2img(), "partial_execution_targets": []},
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_bodies_of_other_shapes_get_the_same_answer(pair: Pair, body: Any) -> None:
    real, stand_in = await pair.both("POST", "/prompt", json=body)
    assert differences(real, stand_in) == []
    assert real[0] in (400, 500)


@pytest.mark.parametrize("path", ["/prompt", "/queue", "/history", "/free", "/interrupt"])
@pytest.mark.parametrize("body", [b"", b"not json", b"null", b"[]", b"{}"])
async def test_other_bodies_get_the_same_status(pair: Pair, path: str, body: bytes) -> None:
    real, stand_in = await pair.both("POST", path, data=body)
    assert stand_in == real


def _preview(prompt: Prompt) -> None:
    del prompt["8"]
    _add("8", "PreviewImage", images=["7", 0])(prompt)


def _webp(prompt: Prompt) -> None:
    how = {"fps": 6, "lossless": True, "quality": 80, "method": "default"}
    prefix = prompt.pop("8")["inputs"]["filename_prefix"]
    prompt["5"]["inputs"]["batch_size"] = 2
    _add("8", "SaveAnimatedWEBP", images=["7", 0], filename_prefix=prefix, **how)(prompt)


def _video(prompt: Prompt) -> None:
    prefix = prompt.pop("8")["inputs"]["filename_prefix"]
    _add("9", "CreateVideo", images=["7", 0], fps=8)(prompt)
    how = {"filename_prefix": f"video/{prefix}", "format": "auto", "codec": "auto"}
    _add("8", "SaveVideo", video=["9", 0], **how)(prompt)


def _text(prompt: Prompt) -> None:
    prompt.clear()
    _add("1", "PreviewAny", source=f"text {uuid4()}")(prompt)


def _model_only(prompt: Prompt) -> None:
    inputs = prompt["2"]["inputs"]
    prompt["2"]["class_type"] = "LoraLoaderModelOnly"
    del inputs["clip"], inputs["strength_clip"]
    _change(n3_clip=["1", 1], n4_clip=["1", 1])(prompt)


def _prefix(form: str) -> Callable[[Prompt], None]:
    def change(prompt: Prompt) -> None:
        inputs = prompt["8"]["inputs"]
        inputs["filename_prefix"] = form.format(inputs["filename_prefix"])

    return change


ACCEPTED: dict[str, Callable[[Prompt], Any]] = {
    "txt2img": lambda _prompt: None,
    "batch of three": _change(n5_batch_size=3),
    "model only": _model_only,
    "strength zero": _change(n2_strength_model=0, n2_strength_clip=0),
    "values as text": _change(n6_steps="1", n6_cfg="4.5", n3_text=5),
    "wrapped value": _change(n3_text={"__value__": ["a", "list"]}),
    "unknown input": _change(n3_nonsense="x"),
    "unused nodes": _add("9", "EmptyLatentImage", width=1, height=64, batch_size=1),
    "one output good, one bad": _one_good_one_bad,
    "preview": _preview,
    "animated webp": _webp,
    "video": _video,
    "text": _text,
    "prefix with a folder": _prefix("user-abc/day/{}"),
    "prefix with the size": _prefix("{}-%width%x%height%"),
    "prefix with dots": _prefix("a/../b/{}"),
    "prefix outside": _prefix("../{}"),
    "prefix absolute": _prefix("/{}"),
}


@pytest.mark.parametrize("change", ACCEPTED.values(), ids=ACCEPTED.keys())
async def test_runs_leave_the_same_history(pair: Pair, change: Callable[[Prompt], Any]) -> None:
    prompt = new_prompt()
    change(prompt)
    extra_data = {"extra_pnginfo": {"workflow": {"nodes": []}}, "api_key_comfy_org": "secret"}
    real, stand_in = await pair.run(prompt, client_id="me", extra_data=extra_data)
    assert differences(real, stand_in) == []


@pytest.mark.parametrize("value", ["picture", None, 5, {}, []])
async def test_a_value_in_place_of_a_picture_fails_in_the_same_node(pair: Pair, value: Any) -> None:
    prompt = new_prompt()
    prompt["8"]["inputs"]["images"] = value
    real, stand_in = await pair.run(prompt)
    if real[0] == 400:
        assert differences(real, stand_in) == []
    else:
        for answer in (real, stand_in):
            kind, about = answer[1]["<id>"]["status"]["messages"][-1]
            assert (kind, about["node_id"]) == ("execution_error", "8")


async def test_a_cached_repeat_leaves_the_same_history(pair: Pair) -> None:
    prompt = new_prompt()
    await pair.run(prompt)
    real, stand_in = await pair.run(prompt)
    assert differences(real, stand_in) == []
    prompt["3"]["inputs"]["text"] = "another cat"
    real, stand_in = await pair.run(prompt)
    assert differences(real, stand_in) == []


BROKEN = {
    "empty": b"",
    "short": b"abc",
    "no length": b"garbage! this is not a file" * 10,
    "header cut off": lora_bytes()[:60],
    "tensors cut off": lora_bytes()[:-100],
    "more than the tensors": pack({"a": tensor(0, 16)}, bytes(20)),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
async def test_broken_loras_fail_with_the_same_words(pair: Pair, content: bytes) -> None:
    file = pair.loras_dir / f"broken-{uuid4().hex}.safetensors"
    file.write_bytes(content)
    prompt = new_prompt()
    prompt["2"]["inputs"]["lora_name"] = file.name
    try:
        real, stand_in = await pair.run(prompt)
    finally:
        file.unlink()
    assert "Error while deserializing header" in str(real)
    assert differences(real, stand_in) == []


async def test_a_lora_replaced_in_place_is_not_noticed_by_either(pair: Pair) -> None:
    file = pair.loras_dir / f"replaced-{uuid4().hex}.safetensors"
    try:
        for server in pair:
            prompt = new_prompt()
            prompt["2"]["inputs"]["lora_name"] = file.name
            file.write_bytes((pair.loras_dir / "lora-a.safetensors").read_bytes())
            await server.run(prompt)
            file.write_bytes((pair.loras_dir / "lora-b.safetensors").read_bytes())
            prompt["3"]["inputs"]["text"] = "seen after the change"
            stale = await _picture(server, prompt)
            await server.ask("POST", "/free", json={"free_memory": True, "unload_models": True})
            # the next prompt may be taken before the memory is freed; this one is not compared
            await server.run(new_prompt())
            prompt["2"]["inputs"]["lora_name"] = "lora-a.safetensors"
            assert await _picture(server, prompt) == stale
            prompt["2"]["inputs"]["lora_name"] = file.name
            assert await _picture(server, prompt) != stale
    finally:
        file.unlink()


async def _picture(server: Server, prompt: Prompt) -> bytes:
    """The picture's data without its text chunks, which name the prompt."""
    _, history = await server.run(copy.deepcopy(prompt))
    (image,) = history["<id>"]["outputs"]["8"]["images"]
    async with server.session.get(f"{server.url}/view", params=image) as answer:
        content = await answer.read()
    return content[content.index(b"IDAT") :]


async def test_the_picture_carries_the_prompt_as_it_ran(pair: Pair) -> None:
    prompt = new_prompt()
    chunks = []
    for server in pair:
        _, history = await server.run(prompt, extra_data={"extra_pnginfo": {"workflow": {"a": 1}}})
        (image,) = history["<id>"]["outputs"]["8"]["images"]
        async with server.session.get(f"{server.url}/view", params=image) as answer:
            chunks.append(
                re.findall(
                    rb"tEXt(prompt|workflow)\0(.*?)....(?=....(?:tEXt|IDAT))",
                    await answer.read(),
                    re.DOTALL,
                )
            )
    assert [(name, json.loads(text)) for name, text in chunks[0]] == [
        (name, json.loads(text)) for name, text in chunks[1]
    ]
    assert len(chunks[0]) == 2

"""No text in a prompt may name another account's folder."""

from typing import Any

import pytest

from sidecar.workflows.graph import ForeignPath, foreign_paths

OWN = "user-0a1b2c3d-0000-4000-8000-00000000000a"
OTHER = "user-0a1b2c3d-0000-4000-8000-00000000000b"


def found(value: Any) -> list[ForeignPath]:
    return foreign_paths({"5": {"class_type": "Any", "inputs": {"x": value}}}, OWN)


def test_a_foreign_path_says_where_it_stands() -> None:
    assert found(f"{OTHER}/a.safetensors") == [ForeignPath("5", "x", f"{OTHER}/a.safetensors")]


@pytest.mark.parametrize(
    "text",
    [
        OTHER,
        f"{OTHER}\\style.safetensors",
        f"./{OTHER}/style.safetensors",
        f"a//{OTHER}//style.safetensors",
        f"{OWN}/../{OTHER}/style.safetensors",
        f"{OWN}\\..\\{OTHER}\\style.safetensors",
        f"{OTHER}/../{OWN}/style.safetensors",
        f"/data/models/loras/{OTHER}/style.safetensors",
        f"C:\\ComfyUI\\output\\{OTHER}\\x.png",
        f"a portrait <lora:{OTHER}/style:0.8> at dusk",
        f"../output/{OTHER}/runs/x.png [output]",
        f"{OTHER.upper()}/style.safetensors",
        OTHER.replace("user", "u\u017fer") + "/style.safetensors",
        OTHER.replace("user", "\uff55\uff53\uff45\uff52") + "/style.safetensors",
        OTHER.replace("user", "us\u200ber") + "/style.safetensors",
        f"{OTHER}. /style.safetensors",
        "USER-0~1\\style.safetensors",
        "loras/us4f2a~1/style.safetensors",
        OTHER.replace("user", "us" + "\u200b" * 100_000 + "er") + "/style.safetensors",
        "\U000e0041" + OTHER.replace("0a1b", "\U0001d7ec\U0001d4ea1\U0001d4eb"),
    ],
)
def test_every_spelling_of_a_foreign_folder_is_found(text: str) -> None:
    assert [path.value for path in found(text)] == [text]


@pytest.mark.parametrize(
    "value",
    [
        f"{OWN}/style.safetensors",
        f"{OWN.upper()}\\style.safetensors",
        "style.safetensors",
        "user-guide/style.safetensors",
        f"power-{OTHER}/x",
        f"{OTHER}0/x",
        "a user-friendly picture, ~1 person",
        5,
        None,
        True,
        ["4", 0],
    ],
)
def test_ones_own_folder_and_other_texts_pass(value: Any) -> None:
    assert found(value) == []


@pytest.mark.parametrize(
    "value",
    [
        {"on": False, "lora": f"{OTHER}/a.safetensors"},
        [[{"deep": [f"{OTHER}/a.safetensors"]}]],
        {"__value__": [f"{OTHER}/a.safetensors"]},
        {f"{OTHER}/a.safetensors": 1},
    ],
)
def test_nothing_is_hidden_by_nesting(value: Any) -> None:
    assert [path.value for path in found(value)] == [f"{OTHER}/a.safetensors"]


@pytest.mark.parametrize("before", [*range(65_480, 65_540), 200_000])
def test_the_end_of_a_long_text_is_read_too(before: int) -> None:
    for blank in (" ", "\u00e9"):
        assert found(blank * before + OTHER)
        assert found(blank * before + "us4f2a~1/x")
        assert not found(blank * before + OTHER + "0")
        assert not found(blank * before + OWN)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "text",
    [
        "a" + "\u0315\u0300\u05ae" * 300_000,
        "\ufdfa" * 500_000,
        "us" * 1_000_000,
        "user-0" * 300_000,
    ],
    ids=["accents", "ligatures", "us", "user"],
)
def test_a_text_that_is_slow_to_normalise_is_read_to_its_end(text: str) -> None:
    assert not found(text)
    assert found(f"{text} {OTHER}/x")


def test_the_name_of_an_input_is_a_text_too() -> None:
    inputs = {f"{OTHER}/a.safetensors": 1, f"{OWN}/b": 2}
    assert foreign_paths({"5": {"class_type": "Any", "inputs": inputs}}, OWN) == [
        ForeignPath("5", f"{OTHER}/a.safetensors", f"{OTHER}/a.safetensors")
    ]


def test_what_is_said_about_a_node_is_read_too() -> None:
    meta = {"title": f"from {OTHER}/a.safetensors", "note": OWN}
    assert foreign_paths({"5": {"class_type": "Any", "inputs": {}, "_meta": meta}}, OWN) == [
        ForeignPath("5", "_meta", f"from {OTHER}/a.safetensors")
    ]

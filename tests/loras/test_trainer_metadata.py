"""What trainers write into the header, and what others write there."""

import json

import pytest

from sidecar.loras.safetensors import Header
from sidecar.loras.trainer_metadata import TrainerMetadata, TriggerWord, read_metadata


def read(shapes: dict[str, tuple[int, ...]] | None = None, **metadata: str) -> TrainerMetadata:
    return read_metadata(
        Header({key.replace("__", "."): text for key, text in metadata.items()}, shapes or {}, 0)
    )


def test_what_kohya_s_scripts_write_is_read() -> None:
    found = read(
        ss_base_model_version="sdxl_base_v1-0",
        ss_network_dim="32",
        ss_network_alpha="16.0",
        ss_output_name="jw_style",
        ss_tag_frequency=json.dumps(
            {"10_jw": {"jw man": 10, "portrait": 4}, "x": {"portrait": 9, "bad": -1, "no": True}}
        ),
    )
    assert (found.base_model, found.rank, found.alpha) == ("sdxl_base_v1-0", 32, 16.0)
    assert found.output_name == "jw_style"
    assert found.trigger_words == (TriggerWord("portrait", 13), TriggerWord("jw man", 10))


def test_the_trainer_s_own_phrase_comes_first() -> None:
    found = read(
        modelspec__trigger_phrase="ohwx man",
        ss_tag_frequency=json.dumps({"x": {"portrait": 9, "ohwx man": 3}}),
    )
    assert found.trigger_words == (TriggerWord("ohwx man", 3), TriggerWord("portrait", 9))


def test_a_rank_that_nobody_wrote_is_read_off_the_tensors() -> None:
    found = read({"a.lora_down.weight": (8, 320), "a.lora_up.weight": (320, 8)})
    assert found.rank == 8


@pytest.mark.parametrize("text", ["Dynamic", "", "nan", "inf", "-1", "1e30", "٣"])
def test_a_number_that_is_none_is_left_out(text: str) -> None:
    assert read(ss_network_alpha=text).alpha in (None, 3.0)


@pytest.mark.parametrize("text", ["[1]", "{", '{"a": 1}', '{"a": {"b": "x"}}', "[" * 100_000, "1"])
def test_a_tag_frequency_of_another_shape_gives_no_words(text: str) -> None:
    assert read(ss_tag_frequency=text).trigger_words == ()


def test_control_characters_and_long_texts_are_cut() -> None:
    found = read(modelspec__title="a\x00b\u202ec\n" + "x" * 10_000)
    assert found.title is not None
    assert found.title.startswith("a b c")
    assert len(found.title) == 200

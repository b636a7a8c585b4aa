"""What a LoRA may be called, and how prompts refer to one."""

from typing import Any

import pytest

from sidecar.errors import ForbiddenError, InvalidError
from sidecar.loras.names import (
    FileReference,
    OwnedReference,
    Picked,
    PinnedReference,
    lora_name,
    parse_reference,
)

OWN = "user-00000000-0000-4000-8000-000000000001"
OTHER = "user-00000000-0000-4000-8000-000000000002"


@pytest.mark.parametrize(
    ("typed", "name", "stem"),
    [
        ("style", "style", "style"),
        ("Style.safetensors", "Style", "style"),
        ("  My Style v1.5.SAFETENSORS ", "My Style v1.5", "my style v1.5"),
        ("ole\u0301", "ol\u00e9", "ol\u00e9"),
        ("STRASSE", "STRASSE", "strasse"),
        ("Stra\u00dfe", "Stra\u00dfe", "strasse"),
        ("\u6c34\u5f69", "\u6c34\u5f69", "\u6c34\u5f69"),
        ("user-portrait", "user-portrait", "user-portrait"),
        ("console", "console", "console"),
        ("me@home", "me@home", "me@home"),
        ("v@2b", "v@2b", "v@2b"),
        ("@style", "@style", "@style"),
        ("x" * 200, "x" * 200, "x" * 200),
    ],
)
def test_a_good_name_is_kept_as_typed(typed: str, name: str, stem: str) -> None:
    assert (lora_name(typed).name, lora_name(typed).stem) == (name, stem)


HOSTILE_NAMES = [
    "", "   ", ".safetensors", ".", "..", "...", ".hidden", "dot.", "a/b", "..\\evil", "C:evil",
    "/etc/passwd", "a\0b", "a\nb", "a\x7fb", "a\u202eb", "a\u200bb", "a\ud800b", "a\u2028b", "a<b",
    "a>b", 'a"b', "a|b", "a?b", "a*b", "con", "NUL", "nul.v1", "COM1", "lpt\u00b9", "CONIN$",
    "style@2", "style@2.safetensors", "style.safetensors@2", "@7", "a@0", "a@99999999999",
    "x" * 201, "\u6c34" * 70, "x" * 300,
]  # fmt: skip


@pytest.mark.parametrize("typed", HOSTILE_NAMES)
def test_a_name_that_some_system_cannot_keep_is_refused(typed: str) -> None:
    with pytest.raises(InvalidError) as caught:
        lora_name(typed)
    assert caught.value.code == "invalid_lora_name"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Style", FileReference("Style", "style")),
        ("style.safetensors", FileReference("style.safetensors", "style")),
        ("anime/x.safetensors", FileReference("anime/x.safetensors", None)),
        ("anime\\x.safetensors", FileReference("anime/x.safetensors", None)),
        ("anime/user-made/x", FileReference("anime/user-made/x", None)),
        ("user-portrait.safetensors", FileReference("user-portrait.safetensors", "user-portrait")),
        (f"{OWN}/s.0a1b2c3d.safetensors", PinnedReference("s.0a1b2c3d.safetensors")),
        (f"{OWN}\\s.0a1b2c3d.safetensors", PinnedReference("s.0a1b2c3d.safetensors")),
    ],
)
def test_a_reference_is_read_with_either_separator(written: str, expected: object) -> None:
    assert parse_reference(written, OWN) == expected


@pytest.mark.parametrize(
    ("written", "stem"),
    [
        ("Style@2", "style@2"),
        ("style@2.safetensors", "style@2"),
        ("style.safetensors@2", "style.safetensors@2"),
        ("style@002", "style@002"),
    ],
)
def test_a_number_after_an_at_picks_a_version_where_nothing_is_called_so(
    written: str, stem: str
) -> None:
    assert parse_reference(written, OWN) == FileReference(written, stem, Picked("style", 2))


@pytest.mark.parametrize(
    "written", ["style@", "style@x", "style@-1", "style@1.5", "@2", "s@9876543210"]
)
def test_what_is_no_number_of_a_version_picks_none(written: str) -> None:
    reference = parse_reference(written, OWN)
    assert isinstance(reference, FileReference)
    assert reference.picked is None


@pytest.mark.parametrize(
    ("written", "owner", "stem", "picked"),
    [
        ("@ann@example.org/Style", "ann@example.org", "style", None),
        ("@Ann@Example.org\\style.safetensors", "Ann@Example.org", "style", None),
        (f"@{OTHER[5:]}/style", OTHER[5:], "style", None),
        (f"@{OTHER[5:].upper()}/style", OTHER[5:].upper(), "style", None),
        ("@ann@example.org/style@3", "ann@example.org", "style@3", Picked("style", 3)),
        (
            "@ann@example.org/style@3.safetensors",
            "ann@example.org",
            "style@3",
            Picked("style", 3),
        ),
        (
            f"@{'a' * 240}@example.org/{'x' * 200}@3",
            f"{'a' * 240}@example.org",
            f"{'x' * 200}@3",
            Picked("x" * 200, 3),
        ),
    ],
)
def test_a_name_after_an_owner_is_that_owner_s(
    written: str, owner: str, stem: str, picked: Picked | None
) -> None:
    reference = parse_reference(written, OWN)
    assert isinstance(reference, OwnedReference)
    assert (reference.owner, reference.stem, reference.picked) == (owner, stem, picked)


@pytest.mark.parametrize(
    "written",
    ["@anime/x.safetensors", "@ann@example.org/a/x", "a/@ann@example.org/x", "ann@example.org/x"],
)
def test_a_folder_that_is_called_like_an_owner_is_a_folder(written: str) -> None:
    assert parse_reference(written, OWN) == FileReference(written, None)


@pytest.mark.parametrize(
    "written",
    [
        f"{OTHER}/x.safetensors",
        f"{OTHER}\\x.safetensors",
        f"{OTHER.upper()}/x.safetensors",
        f"./{OTHER}/x",
        f"//{OTHER}/x",
        f"a/../{OTHER}/x",
        f"{OWN}/../{OTHER}/x",
        f"{OWN}\\..\\{OTHER}\\x",
        f"{OTHER}./x",
        "user-a/x",
        "User-a/x",
    ],
)
def test_somebody_else_s_folder_is_foreign_however_it_is_written(written: str) -> None:
    with pytest.raises(ForbiddenError) as caught:
        parse_reference(written, OWN)
    assert caught.value.code == "foreign_lora"


@pytest.mark.parametrize(
    "written",
    ["", ".", "..", "../x", "a/../x", "a//x", "a/./x", "/x", "\\x", "C:\\x", "c:x", "\\\\server\\x",
     " /x", "@ann@example.org/", "@ann@example.org/..", f"@ann@example.org/{'x' * 500}",
     "a\0", "a\nb", "x/", "x" * 300, 5, 1.5, True, None, ["x"], {"a": 1}],
)  # fmt: skip
def test_what_can_be_no_file_is_refused(written: Any) -> None:
    with pytest.raises(InvalidError) as caught:
        parse_reference(written, OWN)
    assert caught.value.code == "invalid_lora_name"


@pytest.mark.timeout(10)
@pytest.mark.parametrize("text", ["a" + "\u0315\u0300\u05ae" * 300_000, "\ufdfa" * 1_000_000])
def test_a_text_that_is_slow_to_normalise_is_refused_for_its_length(text: str) -> None:
    with pytest.raises(InvalidError) as caught:
        lora_name(text)
    assert caught.value.code == "invalid_lora_name"
    assert "longer than" in caught.value.details["reason"]
    with pytest.raises(InvalidError):
        parse_reference(text, OWN)


def test_a_name_is_measured_in_its_one_form() -> None:
    typed = "\u1100\u1161\u11a8" * 66  # Hangul in parts
    assert lora_name(typed + " " * 1000).name == "\uac01" * 66

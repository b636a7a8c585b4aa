"""What trainers write about a LoRA into its header, made safe to store and to show.

Every value is a claim by the file: text where a number belongs, JSON that is none, control
characters, anything.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .safetensors import Header

MOST_WORDS = 30
_RANK_ROWS = (".lora_down.weight", ".lora_A.weight", ".lora_A.default.weight", ".lora.down.weight")


@dataclass(frozen=True)
class TriggerWord:
    """A word that the LoRA was trained on; ``count`` is in how many captions it was."""

    word: str
    count: int


@dataclass(frozen=True)
class TrainerMetadata:
    """What a LoRA browser shows. ``trigger_words`` are the most frequent ones, the phrase that the
    trainer names first."""

    base_model: str | None
    rank: int | None
    alpha: float | None
    title: str | None
    author: str | None
    output_name: str | None
    network_module: str | None
    trigger_words: tuple[TriggerWord, ...]


def read_metadata(header: Header) -> TrainerMetadata:
    """Read the keys that kohya's scripts, modelspec and their relatives write."""
    given = header.metadata
    base_model = (
        given.get("ss_base_model_version")
        or given.get("modelspec.architecture")
        or given.get("ss_sd_model_name")
    )
    rank = _number(given.get("ss_network_dim"))
    return TrainerMetadata(
        base_model=clean_text(base_model),
        rank=int(rank) if rank else _rank_of_shapes(header.shapes),
        alpha=_number(given.get("ss_network_alpha")),
        title=clean_text(given.get("modelspec.title")),
        author=clean_text(given.get("modelspec.author")),
        output_name=clean_text(given.get("ss_output_name")),
        network_module=clean_text(given.get("ss_network_module")),
        trigger_words=_trigger_words(given),
    )


def clean_text(text: str | None, most: int = 200) -> str | None:
    """NFC, one line, no control characters (PostgreSQL stores no NUL), at most ``most`` characters.

    None when nothing is left. It may still be HTML: escape it where it is shown.
    """
    if text is None:
        return None
    printable = "".join(c if c.isprintable() else " " for c in text[: most * 2])
    return unicodedata.normalize("NFC", printable).strip()[:most] or None


def _number(text: str | None) -> float | None:
    """LyCORIS writes "Dynamic" where a number is expected."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < 1e9 else None


def _rank_of_shapes(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    ranks = Counter(
        shape[0] for name, shape in shapes.items() if shape and name.endswith(_RANK_ROWS)
    )
    most_common = ranks.most_common(1)
    return most_common[0][0] if most_common else None


def _trigger_words(given: Mapping[str, str]) -> tuple[TriggerWord, ...]:
    counts = _tag_counts(given.get("ss_tag_frequency", ""))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    phrase = clean_text(given.get("modelspec.trigger_phrase"))
    if phrase is not None:
        ranked = [(phrase, counts.get(phrase, 0)), *(item for item in ranked if item[0] != phrase)]
    return tuple(TriggerWord(word, count) for word, count in ranked[:MOST_WORDS])


def _tag_counts(text: str) -> Counter[str]:
    """``{training folder: {tag: count}}``, which is JSON inside a JSON string."""
    counts: Counter[str] = Counter()
    for tags in _object(_parsed(text)).values():
        for tag, count in _object(tags).items():
            word = clean_text(tag, 100)
            if word is not None and type(count) is int and 0 < count < 10**9:
                counts[word] += count
    return counts


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}

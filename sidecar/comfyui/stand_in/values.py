"""What passes between nodes instead of tensors: recipes, whose text decides the picture."""

import hashlib
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Weights:
    """A model or a text encoder: a checkpoint, and the LoRAs on it as (sha256, strength)."""

    checkpoint: str
    loras: tuple[tuple[str, float], ...] = ()

    def with_lora(self, sha256: str, strength: float) -> "Weights":
        """The same with one LoRA more; strength 0 changes nothing."""
        return replace(self, loras=(*self.loras, (sha256, strength))) if strength else self


@dataclass(frozen=True)
class Conditioning:
    """A text as a text encoder sees it."""

    text: str
    clip: Weights


@dataclass(frozen=True)
class Latent:
    """A batch that is to be drawn; sizes in pixels."""

    width: int
    height: int
    count: int
    recipe: str = ""


@dataclass(frozen=True)
class Image:
    """One picture; sizes in pixels."""

    width: int
    height: int
    recipe: str

    def digest(self) -> bytes:
        """32 bytes that stand for what is in the picture."""
        return hashlib.sha256(self.recipe.encode()).digest()


@dataclass(frozen=True)
class Audio:
    """Silence: seconds, samples a second, channels."""

    duration: float
    sample_rate: int
    channels: int


@dataclass(frozen=True)
class Video:
    """Pictures at a speed."""

    images: tuple[Image, ...]
    fps: float

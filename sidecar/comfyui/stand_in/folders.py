"""ComfyUI's folders: what it lists, where it writes, what it shows."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MODEL_EXTENSIONS = frozenset(
    {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"}
)


@dataclass(frozen=True)
class Folders:
    """One server's folders. ``checkpoints`` are names only: no checkpoint is ever read."""

    base: Path
    loras: Path
    checkpoints: Sequence[str]

    def make(self) -> None:
        """Make those that are not there."""
        for kind in ("output", "input", "temp"):
            (self.base / kind).mkdir(parents=True, exist_ok=True)
        self.loras.mkdir(parents=True, exist_ok=True)

    def of_type(self, kind: str) -> Path | None:
        """The folder that ``type`` names in requests."""
        return self.base / kind if kind in ("output", "input", "temp") else None

    def lora_names(self) -> list[str]:
        """Every LoRA file, sorted, relative, with the system's own separator."""
        names = []
        # os.walk, because Path.walk is not in Python 3.10
        for folder, below, files in os.walk(self.loras, followlinks=True):
            below[:] = [name for name in below if name != ".git"]
            for name in files:
                if Path(name).suffix.lower() in MODEL_EXTENSIONS:
                    names.append(str((Path(folder) / name).relative_to(self.loras)))
        return sorted(names)

    def lora_file(self, name: str) -> Path:
        """Where a LoRA is. ``..`` folds within the folder, as in ComfyUI."""
        folded = os.path.relpath(os.path.join("/", name), "/")  # noqa: PTH118 -- resolve() follows links
        file = self.loras / folded
        if not file.is_file():
            raise FileNotFoundError(f"Model in folder 'loras' with filename '{name}' not found.")
        return file


@dataclass(frozen=True)
class SavePlace:
    """Where a saver writes next; ``counter`` is the first free number."""

    folder: Path
    subfolder: str
    name: str
    counter: int

    def file(self, extension: str, offset: int = 0) -> str:
        """The file's name in ComfyUI's counting form."""
        return f"{self.name}_{self.counter + offset:05}_{extension}"


def save_place(prefix: str, root: Path, width: int = 0, height: int = 0) -> SavePlace:
    """ComfyUI's own naming; a prefix that leaves ``root`` is an error."""
    filled = os.path.normpath(_fill_in(prefix, width, height))
    subfolder, name = os.path.split(filled)
    folder = root / subfolder
    absolute = os.path.abspath(folder)  # noqa: PTH100 -- resolve() would follow links
    if os.path.commonpath((str(root), absolute)) != str(root):
        raise Exception(  # noqa: TRY002 -- ComfyUI raises just that, and names it in the error
            "**** ERROR: Saving image outside the output folder is not allowed."
            f"\n full_output_folder: {absolute}\n         output_dir: {root}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    taken = [_number(file.name, name) for file in folder.iterdir()]
    return SavePlace(folder, subfolder, name, max(taken, default=0) + 1)


def _number(file_name: str, prefix: str) -> int:
    """The counter in ``<prefix>_00012_.png``; 0 when the file is not of this prefix."""
    head, rest = file_name[: len(prefix) + 1], file_name[len(prefix) + 1 :]
    if os.path.normcase(head) != os.path.normcase(prefix + "_"):
        return 0
    digits = rest.split("_")[0]
    return int(digits) if digits.isascii() and digits.isdigit() else 0


def _fill_in(prefix: str, width: int, height: int) -> str:
    now = time.localtime()
    filled = prefix.replace("%width%", str(width)).replace("%height%", str(height))
    for word, value in (
        ("year", str(now.tm_year)),
        ("month", f"{now.tm_mon:02}"),
        ("day", f"{now.tm_mday:02}"),
        ("hour", f"{now.tm_hour:02}"),
        ("minute", f"{now.tm_min:02}"),
        ("second", f"{now.tm_sec:02}"),
    ):
        filled = filled.replace(f"%{word}%", value)
    return filled

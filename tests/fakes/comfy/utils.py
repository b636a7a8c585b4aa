"""Reading files and showing progress."""

from pathlib import Path

shown: list[tuple[int, int]] = []
"""Every progress that a node showed: value and maximum."""


def load_torch_file(ckpt: str, safe_load: bool = False) -> bytes:
    """The bytes of the file; ValueError for one that is not meant to be readable."""
    content = Path(ckpt).read_bytes()
    if not safe_load or content.startswith(b"corrupt"):
        raise ValueError(f"Error while deserializing header: {ckpt}")
    return content


class ProgressBar:
    """A node's progress."""

    def __init__(self, total: int) -> None:
        self.total = total

    def update_absolute(self, value: int, total: int | None = None) -> None:
        """Show it."""
        shown.append((value, total or self.total))

"""How often each prompt was executed, on disk too, so that a test can kill the process."""

from pathlib import Path


class Ledger:
    """``executions`` counts what any process with this file began to execute."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.executions: dict[str, int] = {}
        if file.exists():
            for prompt_id in file.read_text(encoding="utf-8").splitlines():
                self._count(prompt_id)

    def note(self, prompt_id: str) -> None:
        """This prompt begins now."""
        with self._file.open("a", encoding="utf-8") as lines:
            lines.write(f"{prompt_id}\n")
        self._count(prompt_id)

    def _count(self, prompt_id: str) -> None:
        self.executions[prompt_id] = self.executions.get(prompt_id, 0) + 1

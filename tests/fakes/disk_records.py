"""What a library would know of files on ComfyUI's disk, said by a test."""

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID, uuid4

from sidecar.loras.models import HeldFiles, LoraPin

HERE = "this pair"


class SaidRecords:
    """The Records that a test writes down."""

    def __init__(self) -> None:
        self.runs: dict[UUID, HeldFiles] = {}
        self.pins: list[LoraPin] = []
        """Every version that its owner has."""
        self.damage: list[tuple[str, str]] = []

    def run(self, *pins: LoraPin, worker: str | None = HERE) -> UUID:
        """A run that pins these; ``worker`` None: nobody has claimed it."""
        run_id = uuid4()
        self.runs[run_id] = HeldFiles(run_id, worker, pins)
        return run_id

    async def held(self) -> Sequence[HeldFiles]:
        """See Records."""
        return list(self.runs.values())

    async def known(self, owner_id: UUID, filenames: Collection[str]) -> Mapping[str, LoraPin]:
        """See Records."""
        folder = f"user-{owner_id}"
        mine = {pin.path.name: pin for pin in self.pins if pin.path.parts[0] == folder}
        return {name: mine[name] for name in filenames if name in mine}

    async def damaged(self, pin: LoraPin, reason: str) -> None:
        """See Records."""
        self.damage.append((pin.name, reason))

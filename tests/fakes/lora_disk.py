"""A folder of ComfyUI's, and stored LoRAs for it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from uuid import UUID

from disk_records import SaidRecords
from lora_pins import AlteredBlobs, stored
from safetensors_files import lora_bytes

from sidecar.loras.disk import LoraSync
from sidecar.loras.disk.tidying import Tidier
from sidecar.loras.models import LoraPin

SIZE = 100_000
BEN = UUID(int=8)


@dataclass
class Disk:
    """LoRAs of one size, of which so many have room."""

    blobs: AlteredBlobs
    folder: Path
    records: SaidRecords
    sync: LoraSync

    @property
    def tidier(self) -> Tidier:
        """Sets the folder right."""
        return Tidier(self.sync)

    async def lora(self, seed: int) -> LoraPin:
        """A stored LoRA that its owner has."""
        pin = await stored(self.blobs, f"lora{seed}", lora_bytes(seed, size=SIZE))
        self.records.pins.append(pin)
        return pin

    def bens(self, pin: LoraPin) -> LoraPin:
        """The same bytes, as Ben's."""
        path = PurePosixPath(f"user-{BEN}", pin.path.name)
        theirs = LoraPin(pin.lora_id, pin.name, 1, pin.sha256, pin.bytes, pin.object_key, path)
        self.records.pins.append(theirs)
        return theirs

    def there(self) -> set[str]:
        """What ComfyUI lists."""
        return {path.name.split(".")[0] for path in self.folder.rglob("*.safetensors")}

    def bytes(self) -> int:
        """What all of it takes; linked files once."""
        found = {path.stat().st_ino: path for path in self.folder.rglob("*") if path.is_file()}
        return sum(path.stat().st_size for path in found.values())


MakeDisk = Callable[..., Disk]

"""A folder of ComfyUI's, and stored LoRAs for it."""

from pathlib import Path
from typing import Any

import pytest
from disk_records import HERE, SaidRecords
from lora_disk import SIZE, Disk, MakeDisk
from lora_pins import AlteredBlobs

from sidecar.loras.disk import LoraSync


@pytest.fixture
def make_disk(tmp_path: Path) -> MakeDisk:
    """A disk with room for so many LoRAs, headers included."""

    def make(room_for: float | None = None, **options: Any) -> Disk:
        blobs = AlteredBlobs(tmp_path / "blobs")
        records = SaidRecords()
        limit = None if room_for is None else int(room_for * (SIZE + 200))
        sync = LoraSync(
            blobs, tmp_path / "loras", records, worker_id=HERE, cache_bytes=limit, **options
        )
        (tmp_path / "loras").mkdir(exist_ok=True)
        return Disk(blobs, tmp_path / "loras", records, sync)

    return make

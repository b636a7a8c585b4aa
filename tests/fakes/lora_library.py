"""A LoRA library beside the stand-in for ComfyUI."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID, uuid4

from clock import FakeClock
from lora_pins import AlteredBlobs

from sidecar.accounts.models import Account, Quotas
from sidecar.accounts.people import People
from sidecar.accounts.store import AccountDirectory
from sidecar.comfyui.client import connected
from sidecar.comfyui.stand_in import StandIn, serving
from sidecar.database import Database
from sidecar.loras.disk import LoraSync
from sidecar.loras.intake import LoraIntake
from sidecar.loras.models import LoraDetail, LoraPin
from sidecar.loras.removal import UnneededFiles
from sidecar.loras.resolve import LoraResolver
from sidecar.loras.service import LoraService
from sidecar.loras.sharing import LoraSharing
from sidecar.loras.uploads import FilePart, TextPart, UploadParts
from sidecar.principal import SYSTEM, Principal, Role

MAX_BYTES = 8 << 20
ANN = Principal(UUID(int=1))
BEN = Principal(UUID(int=2))
CID = Principal(UUID(int=3))
EMAILS = {ANN: "ann@example.org", BEN: "ben@example.org", CID: "cid@example.org"}


@dataclass
class Library:
    """The services, and what they work on."""

    service: LoraService
    intake: LoraIntake
    resolver: LoraResolver
    sharing: LoraSharing
    database: Database
    blobs: AlteredBlobs
    sync: LoraSync
    comfyui: StandIn
    clock: FakeClock
    loras_dir: Path
    quotas: dict[UUID, Quotas]
    gone: set[UUID]
    """Who is signed in no more."""

    async def upload(
        self,
        data: bytes,
        filename: str | None = "style.safetensors",
        who: Principal = ANN,
        **texts: str,
    ) -> tuple[LoraDetail, bool]:
        """Upload a file as ``who``."""
        self.clock.tick()
        taken = await self.intake.add(who, form(data, filename, texts))
        return await self.service.get(who, taken.lora_id), taken.created

    async def pinned(self, name: str = "style", who: Principal = ANN) -> LoraPin:
        """What a name of the library stands for."""
        found = (await self.resolver.pin(who, [name]))[name]
        assert isinstance(found, LoraPin)
        return found

    def share(self, name: str) -> None:
        """Put a file into ComfyUI's folder, as its operator would."""
        path = self.loras_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"shared")

    async def accounts(self) -> None:
        """Give Ann, Ben and Cid accounts, by which they are known to each other."""
        for who, email in EMAILS.items():
            await self.join(who, email)

    async def join(
        self, who: Principal, email: str | None, *, supabase_email: str | None = None
    ) -> None:
        """Give somebody an account."""
        now = self.clock.now()
        account = Account(who.id, email, Role.MEMBER, now, supabase_email=supabase_email)
        async with self.database.transaction(SYSTEM) as tx:
            await AccountDirectory(tx).add(account, None)

    async def disable(self, who: Principal) -> None:
        """Let somebody's account do nothing any more."""
        async with self.database.transaction(SYSTEM) as tx:
            found = await AccountDirectory(tx).get(who.id)
            assert found is not None
            await AccountDirectory(tx).save(replace(found, disabled_at=self.clock.now()))

    async def give(
        self,
        lora_id: UUID,
        *users: str,
        who: Principal = ANN,
        everyone: bool = False,
        can_download: bool = False,
    ) -> None:
        """Share a LoRA with these alone."""
        await self.sharing.share(
            who, lora_id, everyone=everyone, users=users, can_download=can_download
        )

    async def keys(self) -> set[str]:
        """Every blob."""
        return {entry.key async for entry in self.blobs.entries("")}


async def form(data: bytes, filename: str | None, texts: Mapping[str, str]) -> UploadParts:
    """Parts as a request brings them: the file first, which is the harder order."""

    async def chunks() -> AsyncIterator[bytes]:
        for offset in range(0, len(data), 100_000):
            yield data[offset : offset + 100_000]

    yield FilePart(filename, chunks())
    for name, value in texts.items():
        yield TextPart(name, value)


@asynccontextmanager
async def opened_library(
    database: Database, clock: FakeClock, folder: Path
) -> AsyncIterator[Library]:
    """A library whose files are all below ``folder``."""
    blobs = AlteredBlobs(folder / "blobs")
    loras_dir = folder / "loras"
    sync = LoraSync(blobs, loras_dir)
    stand_in = StandIn(folder / "comfyui", loras_dir)
    async with serving(stand_in) as url, connected(url, client_id="test") as comfyui:
        quotas: dict[UUID, Quotas] = {}
        gone: set[UUID] = set()

        async def quotas_of(who: Principal) -> Quotas:
            return quotas.get(who.id, Quotas(10, None))

        async def is_welcome(who: Principal) -> bool:
            return who.id not in gone

        intake = LoraIntake(
            database,
            blobs,
            clock,
            uuid4,
            max_bytes=MAX_BYTES,
            quotas=quotas_of,
            is_welcome=is_welcome,
        )
        people, files = People(database), UnneededFiles(database, sync)
        yield Library(
            LoraService(database, blobs, sync, comfyui, files, people, clock),
            intake,
            LoraResolver(database, comfyui, people),
            LoraSharing(database, files, people, clock, uuid4),
            database,
            blobs,
            sync,
            stand_in,
            clock,
            loras_dir,
            quotas,
            gone,
        )

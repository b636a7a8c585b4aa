"""Two people in one studio, each with things of every kind, made through the API.

``Things`` are all the names by which somebody's things can be asked for. ``never`` gives names of
the same shape that nobody's things have: whoever asks with either must be told the same.
"""

import asyncio
import base64
import hashlib
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import sqlalchemy as sa
from accounts_room import opened_room
from clock import FakeClock
from databases import opened, sqlite_database
from studio import DATABASE_URL, Studio, drawing, lora_file, settings_for, stand_in_at, studio

from sidecar.accounts.models import SCOPES
from sidecar.comfyui.stand_in import StandIn
from sidecar.database import Database
from sidecar.database.tables import lora_versions, metadata

PASSWORD = "correct horse battery"
PAGED = ("/workflows", "/loras", "/runs", "/sessions", "/tokens")


@dataclass(frozen=True)
class Things:
    """Somebody's things by their names. Ids are UUIDs as text."""

    account: str
    email: str
    workflow: str
    workflow_name: str
    other_workflow_name: str
    tag: str
    lora: str
    lora_name: str
    given: str
    """Another LoRA."""
    friend: str
    """The account that ``lora`` and ``given`` are shared with."""
    other_lora: str
    other_lora_name: str
    file: bytes = field(repr=False)
    """Of the LoRA's second version, which is its head."""
    path: str
    """The head's file below ComfyUI's LoRA folder, as runs pin it."""
    old_path: str
    object_key: str
    """Where the head's bytes are kept, which nobody is shown."""
    upload: str
    """Resumable; nothing of it has arrived."""
    run: str
    """Succeeded, with an output; of ``workflow``, asked for with ``key``."""
    queued: str
    session: str
    """One that does not ask."""
    token: str
    token_name: str
    key: str
    cursors: Mapping[str, str]
    """After the newest of each list."""

    @property
    def folder(self) -> str:
        """Where the account's files are."""
        return f"user-{self.account}"

    def named(self) -> Iterator[tuple[str, str]]:
        """Each name with what it is, longest first: a path holds the id of its account."""
        texts = {f.name: getattr(self, f.name) for f in fields(self)} | {"folder": self.folder}
        texts |= {f"cursor of {path}": cursor for path, cursor in self.cursors.items()}
        known = {name: text for name, text in texts.items() if isinstance(text, str) and text}
        yield from sorted(known.items(), key=lambda item: -len(item[1]))


def never(things: Things) -> Things:
    """Names of the same length and form that nothing has."""
    account, number = str(uuid4()), secrets.randbelow(1 << 30)
    file = lora_file(number)
    mark = hashlib.sha256(file).hexdigest()[:8]
    name = _other(things.lora_name)
    path = f"user-{account}/{name}.{mark}.safetensors"
    return Things(
        account=account,
        email=_other(things.email.partition("@")[0]) + "@example.org",
        workflow=str(uuid4()),
        workflow_name=_other(things.workflow_name),
        other_workflow_name=_other(things.other_workflow_name),
        tag=_other(things.tag),
        lora=str(uuid4()),
        lora_name=name,
        given=str(uuid4()),
        friend=str(uuid4()),
        other_lora=str(uuid4()),
        other_lora_name=_other(things.other_lora_name),
        file=file,
        path=path,
        old_path=path.replace(mark, secrets.token_hex(4)),
        object_key=f"user-{account}/loras/{uuid4()}.safetensors",
        upload=str(uuid4()),
        run=str(uuid4()),
        queued=str(uuid4()),
        session=str(uuid4()),
        token=str(uuid4()),
        token_name=_other(things.token_name),
        key=_other(things.key),
        cursors={path: _elsewhere(cursor) for path, cursor in things.cursors.items()},
    )


def _other(text: str) -> str:
    return secrets.token_hex(len(text))[: len(text)]


def _elsewhere(cursor: str) -> str:
    """Of the same moment: which of one's own rows come after it must not change."""
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    moment, _, _ = raw.partition(" ")
    return base64.urlsafe_b64encode(f"{moment} {uuid4()}".encode()).decode().rstrip("=")


@dataclass
class Person:
    """Somebody who is signed in, with a client of the API."""

    studio: Studio
    email: str
    account: str
    bearer: str
    lacking: dict[str, str] = field(default_factory=dict)
    """API tokens by the one scope that they lack."""

    @property
    def id(self) -> UUID:
        """The account."""
        return UUID(self.account)

    async def ask(self, method: str, path: str, **kwargs: Any) -> Any:
        """What a good request answers."""
        headers = {"Authorization": f"Bearer {self.bearer}", **kwargs.pop("headers", {})}
        status, answer = await self.studio.ask(method, path, headers=headers, **kwargs)
        assert status < 300, (method, path, status, answer)
        return answer

    async def upload(self, name: str, data: bytes) -> Any:
        """Upload a LoRA."""
        form = aiohttp.FormData()
        form.add_field("name", name)
        form.add_field("file", data, filename="x.safetensors")
        return await self.ask("POST", "/loras", data=form)

    async def begin_upload(self, name: str, length: int) -> str:
        """Begin a resumable upload; its id."""
        encoded = base64.b64encode(name.encode()).decode()
        headers = {"Upload-Length": str(length), "Upload-Metadata": f"filename {encoded}"}
        headers |= {"Tus-Resumable": "1.0.0"}
        await self.ask("POST", "/uploads", headers=headers)
        return str((await self.ask("GET", "/uploads"))["items"][0]["id"])

    async def until(self, run: str, status: str) -> Any:
        """Wait for a run."""
        while (found := await self.ask("GET", f"/runs/{run}"))["status"] != status:
            assert found["status"] not in ("failed", "cancelled"), found
            await asyncio.sleep(0.02)
        return found

    async def tokens_that_lack_a_scope(self) -> None:
        """Make one for each scope."""
        for scope in sorted(SCOPES):
            order = {"name": f"without {scope}", "scopes": sorted(SCOPES - {scope})}
            self.lacking[scope] = (await self.ask("POST", "/tokens", json=order))["token"]


@dataclass
class World:
    """A studio with its database, beside a ComfyUI that can be made to wait."""

    folder: Path
    studio: Studio
    stand_in: StandIn
    database: Database
    admin: sa.Engine
    """As the owner of the tables; on SQLite the same file."""
    _clock: FakeClock = field(default_factory=FakeClock)

    async def join(self, email: str, *, sessions: int = 2) -> Person:
        """A new account, signed in so often; the first of a studio is an admin."""
        self._clock.tick()
        async with opened_room(self.database, self._clock) as room:
            account = await room.users.add(email, password=PASSWORD)
        person = Person(self.studio, email, str(account.id), "")
        for _ in range(sessions):
            person.bearer = await self.sign_in(email)
        return person

    async def sign_in(self, email: str) -> str:
        """A new session's token."""
        order = {"email": email, "password": PASSWORD}
        status, answer = await self.studio.ask("POST", "/auth/login", json=order)
        assert status == 200, answer
        return str(answer["access_token"])

    async def hold(self, somebody: Person) -> None:
        """Let ComfyUI be busy with somebody's run from now on: what comes later stays queued."""
        self.stand_in.hold()
        run = await somebody.ask("POST", "/runs", json={"workflow_json": drawing(99)})
        await somebody.until(run["id"], "running")

    def object_key(self, sha256: str) -> str:
        """Where the bytes of a version are kept."""
        query = sa.select(lora_versions.c.object_key).where(lora_versions.c.sha256 == sha256)
        with self.admin.connect() as connection:
            return str(connection.execute(query).scalar_one())

    def rows(self, account: UUID) -> dict[str, list[tuple[str, ...]]]:
        """Every row that is this account's, by table, as the database has it."""
        found = {}
        with self.admin.connect() as connection:
            for name, table in metadata.tables.items():
                columns = [sa.cast(column, sa.Text) for column in table.c]
                rows = connection.execute(sa.select(*columns).where(owner_of(table) == account))
                found[name] = sorted(tuple(map(str, row)) for row in rows)
        return found

    def words(self, account: UUID) -> set[str]:
        """Every text of some length in its rows, inside JSON too, and every id."""
        found: set[str] = set()
        with self.admin.connect() as connection:
            for table in metadata.tables.values():
                for row in connection.execute(sa.select(table).where(owner_of(table) == account)):
                    for value in row:
                        found.update(_words(value))
        return found

    def files(self, account: UUID) -> dict[str, str]:
        """Every file in its folders, blobs and ComfyUI's disk alike, with a hash of its bytes."""
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.folder.rglob("*")
            if path.is_file() and f"user-{account}" in path.parts
        }


def owner_of(table: sa.Table) -> sa.Column[Any]:
    """The column that says whose a row is."""
    owner: sa.Column[Any] = table.c.owner_id if "owner_id" in table.c else table.c.id
    return owner


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, UUID) or (isinstance(value, str) and len(value) > 7):
        yield str(value)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _words(key)
            yield from _words(inner)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            yield from _words(inner)


@asynccontextmanager
async def opened_world(folder: Path, urls: tuple[str, str] | None = None) -> AsyncIterator[World]:
    """An empty studio that asks everybody to sign in.

    ``urls`` are those of the sidecar's role and of the owner on Postgres; None: SQLite.
    """
    if urls is not None:
        (folder / DATABASE_URL).write_text(urls[0], encoding="utf-8")
    async with AsyncExitStack() as stack:
        stand_in, comfyui = await stack.enter_async_context(stand_in_at(folder))
        settings = settings_for(folder, comfyui, ATELIER_AUTH="local", ATELIER_RUNS_AT_ONCE=1)
        client = await stack.enter_async_context(studio(settings))
        if urls is None:
            opening: Any = sqlite_database(settings.database_file)
            admin = sa.create_engine(f"sqlite:///{settings.database_file}")
        else:
            opening = opened(urls[0])
            url = sa.make_url(urls[1]).set(drivername="postgresql+psycopg")
            search = {"options": "-csearch_path=atelier"}
            admin = sa.create_engine(url, poolclass=sa.NullPool, connect_args=search)
        stack.callback(admin.dispose)
        database = await stack.enter_async_context(opening)
        try:
            yield World(folder, client, stand_in, database, admin)
        finally:
            stand_in.release()


async def furnish(world: World, person: Person, mark: str, seed: int) -> Things:
    """Make this person things of every kind, all but a queued run; ``mark`` is in every name.

    Two LoRAs are shared, with a friend of this person's alone.
    """
    lora_name, file = f"{mark}-style", lora_file(seed + 1)
    await person.upload(lora_name, lora_file(seed))
    first = await person.upload(f"{mark}-other", lora_file(seed + 2))
    old = await person.ask("GET", "/loras", params={"q": lora_name})
    old_path = (await person.ask("GET", f"/loras/{old['items'][0]['id']}"))["path"]
    lora = await person.upload(lora_name, file)
    change = {"description": f"what {mark} keeps here", "tags": [f"{mark}-tag"]}
    await person.ask("PATCH", f"/loras/{lora['id']}", json=change)
    upload = await person.begin_upload(f"{mark}-coming", 100 + seed)
    friend = await world.join(f"{mark}-friend@example.org", sessions=0)
    shares = {"users": [friend.email], "can_download": True}
    given = await person.upload(f"{mark}-given", lora_file(seed + 3))
    for each in (lora, given):
        await person.ask("PUT", f"/loras/{each['id']}/shares", json=shares)
    body = {
        "name": f"{mark}-portrait",
        "description": f"what {mark} draws",
        "tags": [f"{mark}-tag"],
        "workflow_json": drawing(seed, lora_name),
        "graph": {"extra": f"what {mark} sees"},
    }
    other = await person.ask("POST", "/workflows", json={**body, "name": f"{mark}-landscape"})
    flow = await person.ask("POST", "/workflows", json=body)
    body["workflow_json"] = drawing(seed + 1, lora_name)
    await person.ask("PUT", f"/workflows/{flow['id']}", json=body)
    run = await person.ask(
        "POST",
        f"/workflows/{flow['id']}/run",
        json={},
        headers={"Idempotency-Key": f"{mark}-key-1"},
    )
    await person.until(run["id"], "succeeded")
    await person.until((await person.ask("POST", f"/runs/{run['id']}/retry"))["id"], "succeeded")
    for name in (f"{mark}-script", f"{mark}-robot"):
        order = {"name": name, "scopes": ["runs:read"]}
        token = await person.ask("POST", "/tokens", json=order)
    sessions = (await person.ask("GET", "/sessions"))["items"]
    return Things(
        account=person.account,
        email=person.email,
        workflow=flow["id"],
        workflow_name=body["name"],
        other_workflow_name=other["name"],
        tag=f"{mark}-tag",
        lora=lora["id"],
        lora_name=lora_name,
        given=given["id"],
        upload=upload,
        friend=friend.account,
        other_lora=first["id"],
        other_lora_name=first["name"],
        file=file,
        path=lora["path"],
        old_path=old_path,
        object_key=world.object_key(lora["sha256"]),
        run=run["id"],
        queued="",
        session=next(each["id"] for each in sessions if not each["current"]),
        token=token["id"],
        token_name=token["name"],
        key=f"{mark}-key-1",
        cursors={path: await _cursor(person, path) for path in PAGED},
    )


async def _cursor(person: Person, path: str) -> str:
    return str((await person.ask("GET", path, params={"limit": 1}))["next_cursor"])


async def queue(person: Person, things: Things) -> str:
    """A run that waits, and holds on to the LoRA; its id."""
    order = {"workflow_json": drawing(5, things.lora_name)}
    run = await person.ask("POST", "/runs", json=order)
    assert run["status"] == "queued"
    return str(run["id"])

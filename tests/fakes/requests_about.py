"""How to ask each route about somebody's things: one entry for every route there is.

An entry makes requests from whose things are asked ``about`` and the asker's ``own``. The owner
asks with both being the same, and must get a real answer: a request that nobody's question could
ever be answers nothing about others. A new route has no entry, and the suite fails until somebody
has thought about it.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from studio import drawing
from two_people import Things

TUS = {"Tus-Resumable": "1.0.0"}
CHUNK = "application/offset+octet-stream"

ANY = tuple(range(200, 300))


@dataclass(frozen=True)
class Request:
    """One question. ``path`` is below the API's base, or at the root for ``//path``."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    form: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    real: Sequence[int] = ANY
    """The statuses that only an owner gets."""
    shows: bool = True
    """Whether a read shows its owner something that is the owner's."""
    late: bool = False
    """It makes something of a name that earlier requests ask for as somebody else's."""
    repeats: bool = True
    """Whether an answer may repeat what was said."""
    speaks_for_the_prompt: bool = False
    """The pack alone may ask it, for whoever runs the prompt."""

    def options(self) -> dict[str, Any]:
        """For aiohttp. A form can be sent once, so it is made anew."""
        options: dict[str, Any] = {"params": self.params, "headers": dict(self.headers)}
        if self.form is not None:
            options["data"] = aiohttp.FormData()
            for name, value in self.form.items():
                filename = "x.safetensors" if isinstance(value, bytes) else None
                options["data"].add_field(name, value, filename=filename)
        elif self.body is not None:
            options["json"] = self.body
        return options

    def said(self) -> str:
        """All that the asker has said, and what follows from it: an answer may repeat it.

        A file's hashes, and what it is called on ComfyUI's disk.
        """
        form = [
            _hashes(value) if isinstance(value, bytes) else value
            for value in (self.form or {}).values()
        ]
        if self.form is not None and {"name", "file"} <= self.form.keys():
            form.append(f"{self.form['name']}.{_hashes(self.form['file'])[0][:8]}.safetensors")
        told = [self.path, self.params, self.body, form, dict(self.headers)]
        return json.dumps(told, ensure_ascii=False)


def _hashes(file: bytes) -> list[str]:
    """Of all, and of what follows the header (8 bytes with its length come first)."""
    weights = file[8 + int.from_bytes(file[:8], "little") :]
    return [hashlib.sha256(each).hexdigest() for each in (file, weights)]


Entry = Callable[[Things, Things], Iterator[tuple[str, dict[str, Any]]]]
"""Yields (path, fields of the Request)."""

TABLE: dict[tuple[str, str], Entry] = {}
PACK_TABLE: dict[tuple[str, str], Entry] = {}


def asking(method: str, path: str, *, table: dict[tuple[str, str], Entry] = TABLE) -> Any:
    """Enter it for this route."""

    def enter(entry: Entry) -> Entry:
        table[method, path] = entry
        return entry

    return enter


def requests(
    route: tuple[str, str], about: Things, own: Things, *, table: Mapping[Any, Entry] = TABLE
) -> list[Request]:
    """What there is to ask of a route."""
    return [Request(route[0], path, **fields) for path, fields in table[route](about, own)]


def _plain(path: str, **fields: Any) -> Entry:
    """The same path whoever is asked about."""

    def entry(_about: Things, _own: Things) -> Iterator[tuple[str, dict[str, Any]]]:
        yield path, fields

    return entry


def _each(*paths: str, **fields: Any) -> Entry:
    """Paths with the asked one's ids in them."""

    def entry(about: Things, _own: Things) -> Iterator[tuple[str, dict[str, Any]]]:
        for path in paths:
            yield path.format_map(vars(about)), fields

    return entry


def _list(path: str, *queries: Callable[[Things], Mapping[str, Any]]) -> Entry:
    """A list as it is, from the asked one's cursor on, and by the asked one's names."""

    def entry(about: Things, _own: Things) -> Iterator[tuple[str, dict[str, Any]]]:
        yield path, {}
        yield path, {"params": {"cursor": about.cursors[path], "limit": 200}}
        for query in queries:
            yield path, {"params": query(about)}

    return entry


# accounts: a sign-in asks about a name, and whoever knows the password is that one
@asking("POST", "/auth/login")
def _login(about: Things, _own: Things) -> Iterator[tuple[str, dict[str, Any]]]:
    body = {"email": about.email, "password": "a guess"}
    yield "/auth/login", {"body": body, "real": (401,)}


@asking("POST", "/auth/logout")
def _logout(about: Things, _own: Things) -> Iterator[tuple[str, dict[str, Any]]]:
    for token in (about.session, f"ats_{about.session}", f"atl_{about.token}"):
        yield "/auth/logout", {"headers": {"Authorization": f"Bearer {token}"}}


asking("POST", "/auth/refresh")(_plain("/auth/refresh"))
asking("GET", "/auth/me")(_plain("/auth/me"))
asking("GET", "/sessions")(_list("/sessions"))
asking("DELETE", "/sessions/{id}")(_each("/sessions/{session}"))
asking("DELETE", "/sessions")(_plain("/sessions", late=True))
asking("GET", "/tokens")(_list("/tokens"))
asking("DELETE", "/tokens/{id}")(_each("/tokens/{token}"))
asking("GET", "/users/{id}")(_each("/users/{account}"))
asking("PATCH", "/users/{id}")(_each("/users/{account}", body={"max_runs": 7}))


@asking("GET", "/users")
def _users(about: Things, _own: Things) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "/users", {}
    yield "/users", {"params": {"q": about.email}}


@asking("POST", "/tokens")
def _new_token(about: Things, _own: Things) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "/tokens", {"body": {"name": about.token_name, "scopes": ["runs:read"]}}


# workflows
asking("GET", "/workflows")(
    _list("/workflows", lambda a: {"q": a.workflow_name}, lambda a: {"tag": a.tag})
)
asking("GET", "/workflows/{id}")(_each("/workflows/{workflow}", "/workflows/{workflow}?version=1"))
asking("DELETE", "/workflows/{id}")(_each("/workflows/{workflow}"))
asking("GET", "/workflows/{id}/versions")(_each("/workflows/{workflow}/versions"))
asking("GET", "/workflows/{id}/runs")(_each("/workflows/{workflow}/runs"))
asking("POST", "/workflows/{id}/versions/{version}/restore")(
    _each("/workflows/{workflow}/versions/1/restore")
)


@asking("POST", "/workflows")
def _new_workflow(about: Things, _own: Things) -> Iterator[tuple[str, dict[str, Any]]]:
    # 409: the owner is told that there is such a name, and nobody else is
    body = {"name": about.workflow_name, "workflow_json": drawing()}
    yield "/workflows", {"body": body, "real": (409,), "late": True}


@asking("PUT", "/workflows/{id}")
def _replace(about: Things, own: Things) -> Iterator[tuple[str, dict[str, Any]]]:
    body = {"name": about.workflow_name, "workflow_json": drawing()}
    yield f"/workflows/{about.workflow}", {"body": {**body, "tags": ["taken"]}}
    # as above: a name is taken for its owner alone
    body = {"name": about.other_workflow_name, "workflow_json": drawing()}
    yield f"/workflows/{own.workflow}", {"body": body, "real": (409,)}


@asking("POST", "/workflows/{id}/run")
def _run(about: Things, own: Things) -> Iterator[tuple[str, dict[str, Any]]]:
    mine = f"/workflows/{own.workflow}/run"
    yield f"/workflows/{about.workflow}/run", {"body": {}}
    yield f"/workflows/{about.workflow}/run", {"body": {"version": 1}}
    for lora in (about.lora_name, about.path, about.old_path, *_with_owner(about)):
        yield mine, {"body": {"input_params": {"2.lora_name": lora}}}
    # the owner is given the run that the key made
    yield (
        f"/workflows/{about.workflow}/run",
        {"body": {}, "headers": {"Idempotency-Key": about.key}},
    )


# LoRAs
@asking("GET", "/loras")
def _loras(about: Things, own: Things) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from _list("/loras", lambda a: {"q": a.lora_name}, lambda a: {"tag": a.tag})(about, own)
    yield "/loras", {"params": {"scope": "all", "q": about.lora_name}}
    yield "/loras", {"params": {"scope": "shared"}, "shows": False}


asking("GET", "/loras/names")(_plain("/loras/names"))
asking("GET", "/loras/{id}")(_each("/loras/{lora}"))
asking("GET", "/loras/{id}/file")(_each("/loras/{lora}/file", "/loras/{lora}/file?version=1"))
asking("GET", "/loras/{id}/shares")(_each("/loras/{lora}/shares"))
asking("DELETE", "/loras/{id}/shares")(_each("/loras/{given}/shares"))
asking("GET", "/loras/{id}/versions/{version}/uses")(_each("/loras/{lora}/versions/2/uses"))
asking("DELETE", "/loras/{id}")(_each("/loras/{other_lora}"))
# 409: the owner is told that a run needs it
asking("DELETE", "/loras/{id}/versions/{version}")(_each("/loras/{lora}/versions/1", real=(409,)))
asking("POST", "/loras/{id}/versions/{version}/restore")(_each("/loras/{lora}/versions/1/restore"))


@asking("PUT", "/loras/{id}/shares")
def _share(about: Things, _own: Things) -> Iterator[tuple[str, dict[str, Any]]]:
    # of one's own, it tells whether somebody has an account: one shares by e-mail
    yield f"/loras/{about.lora}/shares", {"body": {"users": [about.friend]}}


@asking("POST", "/loras")
def _new_lora(about: Things, _own: Things) -> Iterator[tuple[str, dict[str, Any]]]:
    # the owner's library has these bytes (200); another one's must not know that anybody has (201)
    form = {"name": about.lora_name, "file": about.file}
    yield "/loras", {"form": form, "real": (200,), "late": True}


@asking("PATCH", "/loras/{id}")
def _edit_lora(about: Things, own: Things) -> Iterator[tuple[str, dict[str, Any]]]:
    yield f"/loras/{about.lora}", {"body": {"description": "taken"}}
    body = {"name": about.other_lora_name}
    yield f"/loras/{own.lora}", {"body": body, "real": (409,)}


@asking("POST", "/loras/{id}/versions")
def _new_version(about: Things, own: Things) -> Iterator[tuple[str, dict[str, Any]]]:
    yield f"/loras/{about.lora}/versions", {"form": {"file": own.file}}


# resumable uploads
asking("OPTIONS", "/uploads")(_plain("/uploads"))
asking("GET", "/uploads")(_plain("/uploads"))
asking("GET", "/uploads/{id}")(_each("/uploads/{upload}", headers=TUS))
asking("DELETE", "/uploads/{id}")(_each("/uploads/{upload}", headers=TUS))
asking("PATCH", "/uploads/{id}")(
    _each("/uploads/{upload}", headers={**TUS, "Content-Type": CHUNK, "Upload-Offset": "0"})
)
asking("POST", "/uploads/{id}")(
    _each(
        "/uploads/{upload}",
        headers={
            **TUS,
            "Content-Type": CHUNK,
            "Upload-Offset": "0",
            "X-HTTP-Method-Override": "PATCH",
        },
    )
)


@asking("POST", "/uploads")
def _upload(about: Things, _own: Things) -> Iterator[tuple[str, dict[str, Any]]]:
    lora = base64.b64encode(about.lora.encode()).decode()
    headers = {**TUS, "Upload-Length": "100", "Upload-Metadata": f"lora_id {lora}"}
    yield "/uploads", {"headers": headers}


# runs
asking("GET", "/runs")(
    _list("/runs", lambda a: {"workflow_id": a.workflow}, lambda _: {"status": "succeeded"})
)
asking("GET", "/runs/{id}")(_each("/runs/{run}", "/runs/{queued}"))
asking("GET", "/runs/{id}/events")(
    _each("/runs/{run}/events", "/runs/{run}/events?last_event_id=1", shows=False)
)
asking("GET", "/runs/{id}/outputs/{index}")(_each("/runs/{run}/outputs/0"))
asking("POST", "/runs/{id}/cancel")(_each("/runs/{queued}/cancel"))
asking("POST", "/runs/{id}/retry")(_each("/runs/{run}/retry", "/runs/{queued}/retry"))
asking("DELETE", "/runs/{id}")(_each("/runs/{run}"))


def _with_owner(about: Things) -> Sequence[str]:
    """The LoRA as its owner would be named, and a version of it."""
    name = about.lora_name
    return (f"@{about.email}/{name}", f"@{about.account}/{name}@1", f"{name}@1")


def graphs(about: Things) -> Iterator[tuple[dict[str, Any], Sequence[int]]]:
    """Graphs that name somebody's files in every way, and what their owner is answered."""
    names = (about.lora_name, f"{about.lora_name}.safetensors", about.path, about.old_path)
    for lora in (*names, *_with_owner(about)):
        yield drawing(7, lora), ANY
    # no name of a LoRA, not even for its owner, who is told so
    yield drawing(7, about.object_key), (422,)
    for prefix in (f"{about.folder}/x", f"a/{about.folder}/../x"):
        saving = drawing(7)
        saving["8"]["inputs"]["filename_prefix"] = prefix
        yield saving, ANY
    hinting = drawing(7)
    hinting["8"]["_meta"] = {"title": about.path}
    yield hinting, ANY


@asking("POST", "/runs")
def _run_graph(about: Things, _own: Things) -> Iterator[tuple[str, dict[str, Any]]]:
    for graph, real in graphs(about):
        yield "/runs", {"body": {"workflow_json": graph}, "real": real}
    key = {"Idempotency-Key": about.key}  # of another request: its owner is told so
    yield "/runs", {"body": {"workflow_json": drawing(8)}, "headers": key, "real": (409,)}


# what the pack inside ComfyUI asks
@asking("POST", "/admit", table=PACK_TABLE)
def _admit(about: Things, own: Things) -> Iterator[tuple[str, dict[str, Any]]]:
    for graph, real in graphs(about):
        body = {"prompt": graph, "prompt_id": about.queued, "client_id": own.account}
        yield "//internal/admit", {"body": {"body": body}, "real": real}
    body = {"prompt": drawing(9), "prompt_id": about.queued}  # it gets an id of its own
    yield "//internal/admit", {"body": {"body": body}, "repeats": False}


@asking("POST", "/admitted", table=PACK_TABLE)
def _admitted(about: Things, _own: Things) -> Iterator[tuple[str, dict[str, Any]]]:
    body = {"run_id": about.run, "status": 200}
    yield "//internal/admitted", {"body": body, "speaks_for_the_prompt": True}


def _of_a_node(path: str) -> Entry:
    def entry(about: Things, own: Things) -> Iterator[tuple[str, dict[str, Any]]]:
        for lora in (about.lora_name, about.path, about.old_path, *_with_owner(about)):
            yield path, {"body": {"lora": lora}}
            yield path, {"body": {"lora": lora, "prompt_id": own.queued or own.run}}
            speaking = {"lora": lora, "prompt_id": about.queued}
            yield path, {"body": speaking, "speaks_for_the_prompt": True}

    return entry


asking("POST", "/loras/ensure", table=PACK_TABLE)(_of_a_node("//internal/loras/ensure"))
asking("POST", "/loras/resolve", table=PACK_TABLE)(_of_a_node("//internal/loras/resolve"))

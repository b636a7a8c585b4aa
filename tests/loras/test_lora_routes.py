"""LoRAs over HTTP: statuses, bodies, and uploads as clients really send them."""

import asyncio
import hashlib
import io
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from lora_library import BEN, EMAILS, MAX_BYTES, Library
from safetensors_files import HOSTILE, lora_bytes
from signed_in import middlewares
from waiting import until

from sidecar.accounts.models import Quotas
from sidecar.http.routing import BASE, mount
from sidecar.loras.multipart import OVERHEAD_BYTES
from sidecar.loras.routes import INTAKE, LORAS, ROUTES
from sidecar.loras.share_routes import SHARING
from sidecar.principal import LOCAL

Client = TestClient[web.Request, web.Application]
URL = f"{BASE}/loras"
NOBODYS = UUID(int=7)
A, B = lora_bytes(1), lora_bytes(2)


@pytest.fixture
async def client(library: Library) -> AsyncIterator[Client]:
    app = web.Application(middlewares=middlewares())
    app[LORAS] = library.service
    app[INTAKE] = library.intake
    app[SHARING] = library.sharing
    mount(app, ROUTES)
    async with TestClient(TestServer(app)) as client:
        yield client


async def asked(
    client: Client, method: str, path: str = "", status: int = 200, **kwargs: Any
) -> Any:
    """The JSON answer, once the status is the one expected."""
    async with client.request(method, URL + path, **kwargs) as response:
        text = await response.text()
        assert response.status == status, text
        return json.loads(text) if text else None


def file_form(data: Any, filename: str | None = "style.safetensors") -> aiohttp.FormData:
    form = aiohttp.FormData()
    sent = io.BytesIO(data) if isinstance(data, bytes) else data
    form.add_field("file", sent, filename=filename, content_type="application/octet-stream")
    return form


async def upload(
    client: Client, data: bytes = A, status: int = 201, path: str = "", **kwargs: Any
) -> Any:
    return await asked(client, "POST", path, status, data=file_form(data, **kwargs))


async def error(client: Client, method: str, path: str, status: int, **kwargs: Any) -> Any:
    return (await asked(client, method, path, status, **kwargs))["error"]


async def test_the_life_of_a_lora(client: Client) -> None:
    made = await upload(client)
    assert (made["name"], made["version"], made["bytes"]) == ("style", 1, len(A))
    assert made["sha256"] == hashlib.sha256(A).hexdigest()
    assert (made["autov2"], made["synced"]) == (made["sha256"][:10], False)
    assert made["rank"] == 4
    assert made["path"].startswith("user-")
    lora = f"/{made['id']}"
    assert await asked(client, "GET", lora) == made
    listed = await asked(client, "GET")
    assert [item["id"] for item in listed["items"]] == [made["id"]]
    assert await asked(client, "GET", "/names") == ["style.safetensors"]
    await upload(client, A, 200)
    second = await upload(client, B, path=f"{lora}/versions")
    assert [version["version"] for version in second["versions"]] == [2, 1]
    restored = await asked(client, "POST", f"{lora}/versions/1/restore")
    assert restored["version"] == 1
    changed = await asked(client, "PATCH", lora, json={"name": "Neu", "tags": ["x"]})
    assert (changed["name"], changed["stem"], changed["tags"]) == ("Neu", "neu", ["x"])
    assert (changed["access"], changed["owner"]) == ("owner", None)
    uses = await asked(client, "GET", f"{lora}/versions/2/uses")
    assert uses == {
        "runs": 0,
        "unfinished_runs": 0,
        "last_used_at": None,
        "workflows": [],
        "is_needed": False,
    }
    assert (await error(client, "DELETE", f"{lora}/versions/1", 409))["code"] == "version_is_head"
    await asked(client, "DELETE", f"{lora}/versions/2", 204)
    assert [each["version"] for each in (await asked(client, "GET", lora))["versions"]] == [1]
    await asked(client, "DELETE", lora, 204)
    await asked(client, "GET", lora, 404)


async def test_sharing_is_said_seen_and_ended(client: Client, library: Library) -> None:
    await library.accounts()
    path = f"/{(await upload(client))['id']}/shares"
    nobody = {"everyone": False, "users": [], "can_download": False}
    assert await asked(client, "GET", path) == nobody
    order = {"users": [EMAILS[BEN], str(BEN.id)], "can_download": True}
    shared = {
        "everyone": False,
        "users": [{"id": str(BEN.id), "user": EMAILS[BEN]}],
        "can_download": True,
    }
    assert await asked(client, "PUT", path, json=order) == shared
    assert await asked(client, "GET", path) == shared
    assert await asked(client, "PUT", path, json={"everyone": True}) == {**nobody, "everyone": True}
    await asked(client, "DELETE", path, 204)
    assert await asked(client, "GET", path) == nobody


@pytest.mark.parametrize(
    ("order", "code"),
    [
        ({"users": ["who@example.org"]}, "unknown_user"),
        ({"users": "ben@example.org"}, "invalid_body"),
        ({"users": [""]}, "invalid_body"),
        ({"users": ["x"] * 201}, "invalid_body"),
        ({"everybody": True}, "invalid_body"),
        ({"everyone": "perhaps"}, "invalid_body"),
    ],
)
async def test_an_order_to_share_that_cannot_be_kept_is_422(
    client: Client, order: Any, code: str
) -> None:
    path = f"/{(await upload(client))['id']}/shares"
    assert (await error(client, "PUT", path, 422, json=order))["code"] == code


async def test_a_download_that_is_not_allowed_is_403(client: Client, library: Library) -> None:
    await library.accounts()
    detail, _ = await library.upload(A, who=BEN)
    await library.give(detail.lora.id, who=BEN, everyone=True)
    path = f"/{detail.lora.id}"
    seen = await asked(client, "GET", path)
    assert (seen["access"], seen["owner"]) == ("run", EMAILS[BEN])
    assert (await error(client, "GET", f"{path}/file", 403))["code"] == "download_not_allowed"
    listed = await asked(client, "GET", "?scope=shared")
    assert [item["owner"] for item in listed["items"]] == [EMAILS[BEN]]
    assert (await asked(client, "GET"))["items"] == []
    await asked(client, "DELETE", path, 404)
    await asked(client, "GET", f"{path}/shares", 404)


async def test_a_body_over_the_quota_is_refused_before_it_is_sent(
    client: Client, library: Library
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"--x\r\n"
        await asyncio.Event().wait()

    library.quotas[LOCAL.id] = Quotas(10, 1000)
    headers = {
        "Content-Type": "multipart/form-data; boundary=x",
        "Content-Length": str(OVERHEAD_BYTES + 1001),
    }
    found = await error(client, "POST", "", 507, data=endless(), headers=headers)
    assert found["code"] == "quota_exceeded"
    assert found["details"] == {"needed_bytes": 1001, "max_bytes": 1000}


@pytest.mark.parametrize("first", ["file", "texts"])
async def test_the_parts_come_in_any_order(client: Client, first: str) -> None:
    form = aiohttp.FormData()
    if first == "file":
        form.add_field("file", A, filename="f.safetensors")
    form.add_field("name", "Tint \u00fc")
    form.add_field("description", "d")
    form.add_field("tags", '["a, b", "c"]')
    if first == "texts":
        form.add_field("file", A, filename="f.safetensors")
    made = await asked(client, "POST", "", 201, data=form)
    assert (made["name"], made["description"]) == ("Tint \u00fc", "d")
    assert made["tags"] == ["a, b", "c"]


async def test_a_large_file_arrives_as_it_was_sent(client: Client) -> None:
    data = lora_bytes(3, size=6 << 20)
    made = await upload(client, data)
    async with client.get(f"{URL}/{made['id']}/file") as response:
        assert await response.read() == data


async def test_a_file_is_downloaded_whole_in_ranges_and_once(client: Client) -> None:
    made = await upload(client)
    url = f"{URL}/{made['id']}/file"
    async with client.get(url) as response:
        assert response.status == 200
        assert response.headers["ETag"] == f'"{made["sha256"]}"'
        assert "style.safetensors" in response.headers["Content-Disposition"]
        assert await response.read() == A
    async with client.get(url, headers={"Range": "bytes=8-17"}) as response:
        assert response.status == 206
        assert await response.read() == A[8:18]
    async with client.get(url, headers={"If-None-Match": f'"{made["sha256"]}"'}) as response:
        assert response.status == 304
    async with client.get(url, headers={"Range": f"bytes={len(A)}-"}) as response:
        assert response.status == 416


async def test_an_older_version_is_downloaded(client: Client) -> None:
    made = await upload(client)
    await upload(client, B)
    url = f"{URL}/{made['id']}/file"
    async with client.get(url, params={"version": "1"}) as response:
        assert await response.read() == A
    assert (await error(client, "GET", f"/{made['id']}/file?version=3", 404))["code"] == (
        "lora_version_not_found"
    )


@pytest.mark.parametrize("name", ["pickle", "zip", "trailing bytes", "duplicate tensor"])
async def test_a_file_of_another_kind_is_415(client: Client, library: Library, name: str) -> None:
    answer = await upload(client, HOSTILE[name], 415)
    assert answer["error"]["code"] == "not_safetensors"
    assert await library.keys() == set()


async def test_a_body_that_is_too_long_is_refused_before_it_is_sent(client: Client) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"--x\r\n"
        await asyncio.Event().wait()

    headers = {
        "Content-Type": "multipart/form-data; boundary=x",
        "Content-Length": str(MAX_BYTES * 10),
    }
    found = await error(client, "POST", "", 413, data=endless(), headers=headers)
    least = MAX_BYTES * 10 - OVERHEAD_BYTES
    assert found == {
        "code": "lora_too_large",
        "message": f"The file has {least} bytes; {MAX_BYTES} are allowed.",
        "details": {"max_bytes": MAX_BYTES},
    }


async def test_a_file_that_is_too_long_is_refused(client: Client) -> None:
    found = await upload(client, lora_bytes(size=MAX_BYTES + 1000), 413)
    assert found["error"]["code"] == "lora_too_large"


async def test_a_refusal_reaches_a_client_that_still_sends(client: Client) -> None:
    async def pickle_without_end() -> AsyncIterator[bytes]:
        yield HOSTILE["pickle"]
        for _ in range(20):
            yield bytes(1 << 20)

    answer = await asked(client, "POST", "", 415, data=file_form(pickle_without_end()))
    assert "pickle" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({}, 422, "invalid_body"),
        ({"name": "x"}, 422, "invalid_body"),
        ({"colour": "red"}, 422, "invalid_body"),
        ({"name": "../x"}, 422, "invalid_lora_name"),
        ({"tags": "[1, 2]"}, 422, "invalid_body"),
        ({"description": "x" * 20_000}, 422, "invalid_body"),
        ({"description": "x" * 100_000}, 413, "field_too_large"),
    ],
)
async def test_a_form_without_a_file_or_with_odd_fields_is_refused(
    client: Client, fields: dict[str, str], status: int, code: str
) -> None:
    form = aiohttp.FormData(fields, default_to_multipart=True)
    if not fields:
        form.add_field("name", "x")
    assert (await error(client, "POST", "", status, data=form))["code"] == code


async def test_two_files_in_one_form_are_refused(client: Client, library: Library) -> None:
    form = file_form(A)
    form.add_field("file", B, filename="b.safetensors")
    assert (await error(client, "POST", "", 422, data=form))["code"] == "invalid_body"
    assert await library.keys() == set()


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"no boundary at all"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nno name\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\nbroken"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + A,
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\n\xff\r\n--x--\r\n',
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n'
            b"Content-Type: multipart/mixed; boundary=y\r\n\r\n--y--\r\n--x--\r\n",
        ),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Disposition: form-data; name=file; filename*0*=utf-8'a"
            b"\r\n\r\n--x--\r\n",
        ),
        ("multipart/form-data; boundary=" + "x" * 100, b"--x\r\n"),
    ],
)
async def test_a_body_that_is_no_form_is_400(
    client: Client, library: Library, content_type: str, body: bytes
) -> None:
    headers = {"Content-Type": content_type}
    found = await error(client, "POST", "", 400, data=body, headers=headers)
    assert found["code"] == "not_multipart"
    assert await library.keys() == set()


async def test_an_aborted_upload_leaves_nothing(client: Client, library: Library) -> None:
    data = lora_bytes(size=4 << 20)
    head = (
        f"POST {URL} HTTP/1.1\r\nHost: {client.host}:{client.port}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n"
        f"Content-Length: {len(data) + 1000}\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="file"; filename="a.safetensors"\r\n\r\n'
    )
    _, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(head.encode() + data[: 3 << 20])
    await writer.drain()
    spools = library.loras_dir.parent / "blobs" / ".incoming"

    async def is_spooled() -> bool:
        return spools.is_dir() and any(spools.iterdir())

    async def is_gone() -> bool:
        return not await is_spooled()

    await until(is_spooled)
    writer.transport.abort()
    await until(is_gone)
    assert await library.keys() == set()
    assert (await asked(client, "GET"))["items"] == []


async def test_an_unknown_lora_is_404_before_its_version_is_read(client: Client) -> None:
    for path in (f"/{uuid4()}/versions", "/not-an-id/versions"):
        answer = await upload(client, A, 404, path)
        assert answer["error"]["code"] == "lora_not_found"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nonsense", 404),
        ("GET", "?limit=0", 422),
        ("GET", "?colour=red", 422),
        ("GET", "?cursor=x", 422),
        ("GET", "?q=%00", 422),
        ("GET", f"/{NOBODYS}/file", 404),
        ("GET", f"/{NOBODYS}/file?version=0", 422),
        ("POST", f"/{NOBODYS}/versions/1/restore", 404),
        ("POST", f"/{NOBODYS}/versions/x/restore", 404),
        ("DELETE", f"/{NOBODYS}", 404),
        ("DELETE", f"/{NOBODYS}/versions/1", 404),
        ("GET", f"/{NOBODYS}/versions/1/uses", 404),
        ("GET", f"/{NOBODYS}/versions/x/uses", 404),
        ("GET", f"/{NOBODYS}/shares", 404),
        ("DELETE", f"/{NOBODYS}/shares", 404),
        ("GET", "?scope=public", 422),
    ],
)
async def test_what_is_not_there_or_not_understood_is_said(
    client: Client, method: str, path: str, status: int
) -> None:
    await asked(client, method, path, status)


@pytest.mark.parametrize(
    "body", [{"name": "a/b"}, {"name": 5}, {"tags": "x"}, {"head_version": 1}, {"tags": [""]}]
)
async def test_a_change_that_cannot_be_made_is_422(client: Client, body: Any) -> None:
    made = await upload(client)
    await asked(client, "PATCH", f"/{made['id']}", 422, json=body)
    assert await asked(client, "GET", f"/{made['id']}") == made

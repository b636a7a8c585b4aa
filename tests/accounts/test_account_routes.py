"""Signing in, sessions, tokens and users over HTTP: statuses, bodies, cookies."""

import json
import logging
from collections.abc import AsyncIterator
from http.cookies import Morsel
from typing import Any
from uuid import uuid4

import pytest
from accounts_room import ANN, BEN, PACK_TOKEN, PASSWORD, SESSION_SECONDS, OpenRoom, Room
from aiohttp import ClientResponse, DummyCookieJar, web
from aiohttp.test_utils import TestClient, TestServer

from sidecar.accounts.routes import ROUTES
from sidecar.http.request_log import AUDIT
from sidecar.http.routing import BASE, mount
from sidecar.identity import Identity, Provider
from sidecar.principal import LOCAL

Client = TestClient[web.Request, web.Application]
LOGIN = {"email": ANN, "password": PASSWORD}
WRITE = {"X-Atelier": "1"}


async def served(room: Room) -> Client:
    """A client of the room's routes that keeps no cookies."""
    app = room.app()
    mount(app, ROUTES)
    server = TestServer(app, host="127.0.0.1")
    client: Client = TestClient(server, cookie_jar=DummyCookieJar())
    await client.start_server()
    return client


@pytest.fixture
async def client(room: Room) -> AsyncIterator[Client]:
    """Ann is the admin, Ben a member."""
    await room.add(ANN)
    await room.add(BEN)
    client = await served(room)
    yield client
    await client.close()


async def ask(
    client: Client, method: str, path: str, status: int = 200, **request: Any
) -> tuple[Any, ClientResponse]:
    """The JSON answer, once the status is the one expected."""
    async with client.request(method, BASE + path, **request) as response:
        text = await response.text()
        assert response.status == status, text
        return json.loads(text) if text else None, response


async def code(client: Client, method: str, path: str, status: int, **request: Any) -> str:
    answer, _ = await ask(client, method, path, status, **request)
    return str(answer["error"]["code"])


async def signed_in(client: Client, email: str = ANN) -> tuple[dict[str, str], dict[str, str]]:
    """The headers that show a new session: as a bearer, and by cookie."""
    answer, response = await ask(client, "POST", "/auth/login", json={**LOGIN, "email": email})
    cookie = the_cookie(client, response)
    bearer = {"Authorization": f"Bearer {answer['access_token']}"}
    return bearer, {"Cookie": f"{cookie.key}={cookie.value}"}


def the_cookie(client: Client, response: ClientResponse) -> "Morsel[str]":
    """The only cookie that was set; its name has the port."""
    assert list(response.cookies) == [f"atelier_{client.port}"]
    return response.cookies[f"atelier_{client.port}"]


async def test_signing_in_answers_the_account_and_sets_the_cookie(client: Client) -> None:
    answer, response = await ask(client, "POST", "/auth/login", json=LOGIN)
    cookie = the_cookie(client, response)
    assert answer["account"] == {"id": str(LOCAL.id), "email": ANN, "role": "admin"}
    assert answer["refresh_token"] is None
    assert answer["expires_at"] == "2026-01-01T13:00:02Z"
    assert answer["access_token"] == cookie.value
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
    assert cookie["secure"] == ""
    assert cookie["domain"] == ""
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("headers", [{"X-Forwarded-Proto": "https"}, {"Origin": "https://{host}"}])
async def test_behind_tls_the_cookie_is_for_tls_alone(
    client: Client, headers: dict[str, str]
) -> None:
    host = f"{client.host}:{client.port}"
    shown = {name: value.format(host=host) for name, value in headers.items()}
    _, response = await ask(client, "POST", "/auth/login", json=LOGIN, headers=shown)
    assert the_cookie(client, response)["secure"] is True


async def test_bearer_and_cookie_are_good_for_the_same(client: Client) -> None:
    for headers in await signed_in(client):
        answer, _ = await ask(client, "GET", "/auth/me", headers=headers)
        assert answer["account"]["email"] == ANN
        assert answer["ways"] == ["local"]
        assert (answer["scopes"], answer["acting"]) == (None, None)
        assert answer["quotas"] == {
            "runs": {"used": 0, "max": 10},
            "bytes": {"used": 0, "max": 1000},
            "loras": {"used": 0, "max": None},
            "max_lora_bytes": None,
        }


@pytest.mark.parametrize("path", ["/auth/me", "/sessions", "/tokens", "/users"])
async def test_a_stranger_learns_how_one_signs_in_and_nothing_else(
    client: Client, path: str
) -> None:
    answer, response = await ask(client, "GET", path, 401)
    assert answer["error"]["code"] == "sign_in_required"
    assert answer["error"]["details"] == {"ways": ["local"]}
    assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_a_wrong_password_is_401_and_after_five_429_with_when_to_come_back(
    client: Client,
) -> None:
    wrong = LOGIN | {"password": "a wrong password"}
    for _ in range(5):
        assert await code(client, "POST", "/auth/login", 401, json=wrong) == "bad_login"
    answer, response = await ask(client, "POST", "/auth/login", 429, json=LOGIN)
    assert answer["error"]["code"] == "too_many_logins"
    assert response.headers["Retry-After"] == "300"


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
async def test_a_form_of_another_site_signs_nobody_in(client: Client, content_type: str) -> None:
    body = json.dumps(LOGIN).encode()
    headers = {"Content-Type": content_type}
    refused = await code(client, "POST", "/auth/login", 415, data=body, headers=headers)
    assert refused == "not_json_type"


@pytest.mark.parametrize("path", ["/auth/login", "/auth/refresh"])
async def test_what_no_sign_in_needs_is_not_read(client: Client, path: str) -> None:
    many = {"email": [[]] * 5000, "password": "x", "refresh_token": "x"}
    assert await code(client, "POST", path, 413, json=many, headers=WRITE) == "body_too_large"


async def test_the_longest_password_is_read_however_it_is_written(client: Client) -> None:
    longest = {**LOGIN, "password": "\U0001f600" * 1024}
    assert await code(client, "POST", "/auth/login", 401, json=longest) == "bad_login"


async def test_a_page_of_another_site_signs_nobody_in(client: Client) -> None:
    headers = {"Origin": "https://evil.example"}
    assert await code(client, "POST", "/auth/login", 403, json=LOGIN, headers=headers)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": ANN},
        {"email": ANN, "password": ""},
        {"email": "", "password": PASSWORD},
        {"email": ANN, "password": "x" * 1025},
        {"email": "a" * 255, "password": PASSWORD},
        {"email": ANN, "password": 1234567890},
        {"email": [ANN], "password": PASSWORD},
        LOGIN | {"remember": True},
    ],
)
async def test_a_login_that_makes_no_sense_is_422_and_repeats_no_password(
    client: Client, body: dict[str, Any]
) -> None:
    answer, _ = await ask(client, "POST", "/auth/login", 422, json=body)
    assert answer["error"]["code"] == "invalid_body"
    assert PASSWORD not in str(answer)
    assert "x" * 1025 not in str(answer)


async def test_changes_by_cookie_need_the_header(client: Client) -> None:
    _, cookie = await signed_in(client)
    for method, path in (
        ("POST", "/auth/refresh"),
        ("POST", "/auth/logout"),
        ("DELETE", "/sessions"),
        ("POST", "/tokens"),
        ("PATCH", f"/users/{uuid4()}"),
    ):
        assert await code(client, method, path, 403, headers=cookie) == "header_missing"
    await ask(client, "POST", "/auth/refresh", headers=cookie | WRITE)


async def test_a_bearer_needs_no_header(client: Client) -> None:
    bearer, _ = await signed_in(client)
    await ask(client, "DELETE", "/sessions", 204, headers=bearer)


async def test_the_cookie_that_asks_is_renewed_and_no_script_is_told_it(
    client: Client, room: Room
) -> None:
    _, cookie = await signed_in(client)
    room.clock.tick(100)
    answer, response = await ask(client, "POST", "/auth/refresh", headers=cookie | WRITE)
    assert answer["access_token"] is None
    assert cookie["Cookie"].endswith(the_cookie(client, response).value)


async def test_a_bearer_is_refreshed_without_a_cookie(client: Client) -> None:
    bearer, _ = await signed_in(client)
    answer, response = await ask(client, "POST", "/auth/refresh", headers=bearer, json={})
    assert bearer["Authorization"].endswith(answer["access_token"])
    assert not response.cookies


async def test_a_refresh_is_json_or_nothing(client: Client) -> None:
    bearer, _ = await signed_in(client)
    for data, status in ((b"refresh_token=x", 415), (b"", 200)):
        headers = bearer | {"Content-Type": "application/x-www-form-urlencoded"}
        await ask(client, "POST", "/auth/refresh", status, headers=headers, data=data)
    await ask(client, "POST", "/auth/refresh", 422, headers=bearer, json={"token": "x"})


async def test_signing_out_ends_the_session_and_takes_the_cookie(client: Client) -> None:
    bearer, cookie = await signed_in(client)
    _, response = await ask(client, "POST", "/auth/logout", 204, headers=cookie | WRITE)
    gone = the_cookie(client, response)
    assert (gone.value, gone["max-age"], gone["path"]) == ("", "0", "/")
    assert await code(client, "GET", "/auth/me", 401, headers=bearer) == "session_ended"
    await ask(client, "POST", "/auth/logout", 204, headers=cookie | WRITE)
    await ask(client, "POST", "/auth/logout", 204)


async def test_supabases_people_sign_in_refresh_and_sign_out(open_room: OpenRoom) -> None:
    room = await open_room("supabase")
    room.supabase.known[ANN] = (PASSWORD, Identity(Provider.SUPABASE, str(uuid4()), ANN))
    client = await served(room)
    first, response = await ask(client, "POST", "/auth/login", json=LOGIN)
    cookie = {"Cookie": f"atelier_{client.port}={the_cookie(client, response).value}"}
    second, response = await ask(
        client,
        "POST",
        "/auth/refresh",
        headers=cookie | WRITE,
        json={"refresh_token": first["refresh_token"]},
    )
    assert second["access_token"] not in (None, first["access_token"])
    assert cookie["Cookie"].endswith(the_cookie(client, response).value)
    bearer = {"Authorization": f"Bearer {second['access_token']}"}
    answer, _ = await ask(client, "GET", "/auth/me", headers=bearer)
    assert answer["account"]["email"] == ANN
    await ask(client, "POST", "/auth/logout", 204, headers=bearer)
    assert room.supabase.signed_out == [second["access_token"]]
    await client.close()


async def test_without_sign_in_everybody_is_the_one_account(open_room: OpenRoom) -> None:
    room = await open_room("none")
    client = await served(room)
    answer, _ = await ask(client, "GET", "/auth/me")
    assert answer["account"] == {"id": str(LOCAL.id), "email": None, "role": "admin"}
    assert answer["ways"] == ["none"]
    assert await code(client, "POST", "/auth/login", 403, json=LOGIN) == "no_passwords_here"
    assert (await ask(client, "GET", "/users"))[0] == {"items": [], "next_cursor": None}
    await client.close()


async def test_the_life_of_a_session(client: Client) -> None:
    lost, _ = await signed_in(client)
    bearer, _ = await signed_in(client)
    answer, _ = await ask(client, "GET", "/sessions", headers=bearer)
    assert sorted(item["current"] for item in answer["items"]) == [False, True]
    (other,) = [item for item in answer["items"] if not item["current"]]
    assert other["address"] == "127.0.0.1"
    assert "sha256" not in str(answer)
    await ask(client, "DELETE", f"/sessions/{other['id']}", 204, headers=bearer)
    await ask(client, "GET", "/auth/me", 401, headers=lost)
    gone = await code(client, "DELETE", f"/sessions/{other['id']}", 404, headers=bearer)
    assert gone == "session_not_found"


async def test_the_life_of_a_token(client: Client) -> None:
    bearer, _ = await signed_in(client, BEN)
    body = {"name": "script", "scopes": ["auth:read"], "expires_in_days": 30}
    made, response = await ask(client, "POST", "/tokens", 201, headers=bearer, json=body)
    assert response.headers["Cache-Control"] == "no-store"
    assert made["expires_at"] == "2026-01-31T12:00:02Z"
    token = {"Authorization": f"Bearer {made['token']}"}
    answer, _ = await ask(client, "GET", "/auth/me", headers=token)
    assert answer["scopes"] == ["auth:read"]
    assert await code(client, "GET", "/tokens", 403, headers=token) == "scope_missing"
    listed, _ = await ask(client, "GET", "/tokens", headers=bearer)
    assert [item["id"] for item in listed["items"]] == [made["id"]]
    assert listed["items"][0]["last_used_at"] == "2026-01-01T12:00:02Z"
    assert made["token"] not in str(listed)
    await ask(client, "DELETE", f"/tokens/{made['id']}", 204, headers=bearer)
    assert await code(client, "GET", "/auth/me", 401, headers=token) == "bad_token"
    assert await code(client, "DELETE", f"/tokens/{made['id']}", 404, headers=bearer)


async def test_an_unknown_scope_is_422(client: Client) -> None:
    bearer, _ = await signed_in(client)
    body = {"name": "x", "scopes": ["everything"]}
    answer, _ = await ask(client, "POST", "/tokens", 422, headers=bearer, json=body)
    assert list(answer["error"]["details"]["fields"]) == ["scopes.0"]


async def test_members_see_no_users(client: Client) -> None:
    bearer, _ = await signed_in(client, BEN)
    for method, path in (
        ("GET", "/users"),
        ("GET", f"/users/{LOCAL.id}"),
        ("PATCH", f"/users/{LOCAL.id}"),
    ):
        assert await code(client, method, path, 403, headers=bearer, json={}) == "admins_only"


async def test_an_admin_changes_a_user(client: Client) -> None:
    bearer, _ = await signed_in(client)
    bens, _ = await signed_in(client, BEN)
    listed, _ = await ask(client, "GET", "/users?q=BEN", headers=bearer)
    (ben,) = listed["items"]
    assert (ben["email"], ben["role"], ben["disabled"], ben["max_runs"]) == (
        BEN,
        "member",
        False,
        None,
    )
    assert ben["usage"] == dict.fromkeys(ben["usage"], 0)
    path = f"/users/{ben['id']}"
    quotas = {"max_runs": 5, "max_bytes": 2**62, "max_loras": 7, "max_lora_bytes": 2**61}
    body = {"role": "admin", **quotas}
    changed, _ = await ask(client, "PATCH", path, headers=bearer, json=body)
    assert changed["quotas"] == quotas
    assert {name: changed[name] for name in quotas} == quotas
    body = {"role": "member", "max_runs": None, "disabled": True}
    changed, _ = await ask(client, "PATCH", path, headers=bearer, json=body)
    assert (changed["disabled"], changed["disabled_at"]) == (True, "2026-01-01T12:00:02Z")
    assert changed["quotas"] == {**quotas, "max_runs": 10}
    assert changed == (await ask(client, "GET", path, headers=bearer))[0]
    await ask(client, "GET", "/auth/me", 401, headers=bens)


@pytest.mark.parametrize(
    "body",
    [
        {"role": None},
        {"role": "system"},
        {"disabled": None},
        {"disabled": "maybe"},
        {"max_runs": -1},
        {"max_runs": 2**31},
        {"max_bytes": 2**63},
        {"email": "new@example.org"},
        {"password_hash": "x"},
        [],
    ],
)
async def test_a_change_that_makes_no_sense_is_422(client: Client, body: Any) -> None:
    bearer, _ = await signed_in(client)
    await ask(client, "PATCH", f"/users/{LOCAL.id}", 422, headers=bearer, json=body)


async def test_the_last_admin_stays_one_and_nobody_elses_id_is_found(client: Client) -> None:
    bearer, _ = await signed_in(client)
    body = {"disabled": True}
    own = f"/users/{LOCAL.id}"
    assert await code(client, "PATCH", own, 409, headers=bearer, json=body) == "last_admin"
    for path in (f"/users/{uuid4()}", "/users/everybody"):
        found = await code(client, "PATCH", path, 404, headers=bearer, json=body)
        assert found == "account_not_found"


async def test_an_admin_asks_for_another_by_header(client: Client) -> None:
    bearer, _ = await signed_in(client)
    await signed_in(client, BEN)
    listed, _ = await ask(client, "GET", "/users?q=ben", headers=bearer)
    acting = bearer | {"X-Atelier-As": listed["items"][0]["id"]}
    me, _ = await ask(client, "GET", "/auth/me", headers=acting)
    assert (me["account"]["email"], me["acting"]) == (BEN, str(LOCAL.id))
    assert await code(client, "GET", "/users", 403, headers=acting) == "admins_only"
    sessions, _ = await ask(client, "GET", "/sessions", headers=acting)
    assert [item["current"] for item in sessions["items"]] == [False]


async def test_the_log_says_what_an_admin_asked_for_another_whatever_its_level(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    bearer, _ = await signed_in(client)
    await signed_in(client, BEN)
    listed, _ = await ask(client, "GET", "/users?q=ben", headers=bearer)
    ben = listed["items"][0]["id"]
    caplog.set_level(logging.WARNING)
    caplog.set_level(logging.INFO, AUDIT)  # as log_to_stderr does
    await ask(client, "GET", "/sessions", headers=bearer | {"X-Atelier-As": ben})
    (line,) = [vars(each) for each in caplog.records if each.message == "admin.acts_for"]
    assert (line["admin"], line["account"]) == (str(LOCAL.id), ben)
    assert (line["method"], line["path"]) == ("GET", f"{BASE}/sessions")


async def test_the_address_is_the_browsers_when_the_pack_says_so_and_no_one_elses_word(
    client: Client,
) -> None:
    forwarded = {"X-Forwarded-For": "2001:db8::7, 10.0.0.1"}
    for headers in (forwarded | {"X-Atelier-Pack": PACK_TOKEN}, forwarded):
        await ask(client, "POST", "/auth/login", json=LOGIN, headers=headers)
    bearer, _ = await signed_in(client)
    listed, _ = await ask(client, "GET", "/sessions", headers=bearer)
    addresses = sorted(item["address"] for item in listed["items"])
    assert addresses == ["127.0.0.1", "127.0.0.1", "2001:db8::7"]


async def test_a_session_ends_over_http_too(client: Client, room: Room) -> None:
    bearer, cookie = await signed_in(client)
    room.clock.tick(SESSION_SECONDS)
    for headers in (bearer, cookie):
        assert await code(client, "GET", "/auth/me", 401, headers=headers) == "session_ended"

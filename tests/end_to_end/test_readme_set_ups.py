"""The set-ups of the README, followed literally."""

import asyncio
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cloudflare_access import AUDIENCE, CloudflareAccess
from postgres_server import PostgresServer
from s3_server import S3Server
from supabase_emulator import SupabaseEmulator
from walks import PASSWORD, walk

from sidecar.demo_files import demo_lora
from sidecar.http.routing import BASE

pytestmark = [
    pytest.mark.skipif(
        sys.platform == "win32" or not (shutil.which("bash") and shutil.which("curl")),
        reason="the walks are written for bash and curl",
    ),
    pytest.mark.timeout(120),
]

SHAPE = (Path(__file__).parents[1] / "fakes" / "supabase_database.sql").read_text("utf-8")
EMAIL = "you@example.org"
CURL = "curl -sS --fail-with-body"


@pytest.fixture
def port() -> int:
    """A free port below the kernel's own range of them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def supabase() -> AsyncIterator[SupabaseEmulator]:
    emulator = SupabaseEmulator()
    async with emulator.serving():
        yield emulator


@pytest.fixture
async def access() -> AsyncIterator[CloudflareAccess]:
    fake = CloudflareAccess()
    async with fake.serving():
        yield fake


async def follow(*arguments: object, **keywords: object) -> str:
    """A walk, in a thread: what it talks to is served on this loop."""
    return await asyncio.to_thread(walk, *arguments, **keywords)  # type: ignore[arg-type]


def api(port: int) -> str:
    return f"http://127.0.0.1:{port}{BASE}"


async def test_accounts(tmp_path: Path, port: int) -> None:
    shown = await follow("accounts", tmp_path, port, {"127.0.0.1:8190": f"127.0.0.1:{port}"})
    assert "Added ann@example.org (admin)" in shown
    assert '"email":"ann@example.org"' in shown
    assert '"scopes":["runs:read","runs:write"]' in shown
    assert "ben@example.org is disabled" in shown


async def test_plain_postgres(tmp_path: Path, port: int, own_postgres: PostgresServer) -> None:
    own_postgres.put_tools_on(tmp_path / "bin")
    here = {"127.0.0.1:5432": f"127.0.0.1:{own_postgres.port}"}
    order = '{"name": "x", "workflow_json": {"1": {"class_type": "A", "inputs": {}}}}'
    save = f"{CURL} -H 'Content-Type: application/json' -d '{order}' {api(port)}/workflows"
    shown = await follow("postgres", tmp_path, port, here, save)
    assert "FAIL" not in shown.replace("FAIL  ComfyUI", "")
    kept = own_postgres.psql("select count(*) from atelier.comfyui_workflows", "atelier")
    assert kept == "1"


async def test_s3(tmp_path: Path, port: int, s3_server: S3Server, bucket: str) -> None:
    replaced = {
        "http://127.0.0.1:9000": s3_server.url,
        "its-access-key": s3_server.access_key,
        "its-secret-key": s3_server.secret_key,
        "MINIO_BUCKET=atelier ": f"MINIO_BUCKET={bucket} ",
    }
    file = tmp_path / "style.safetensors"
    file.write_bytes(demo_lora(1))
    shown = await follow(
        "s3", tmp_path, port, replaced, f"{CURL} -F file=@{file} {api(port)}/loras"
    )
    assert "can be written, read and listed" in shown
    kept = s3_server.client().list_objects(bucket, recursive=True)
    assert [each for each in kept if str(each.object_name).endswith(".safetensors")]


async def test_supabase(
    tmp_path: Path, port: int, own_postgres: PostgresServer, supabase: SupabaseEmulator
) -> None:
    own_postgres.create_database("project")
    own_postgres.psql(SHAPE, "project")
    user = supabase.add_user(EMAIL, PASSWORD)
    sql = tmp_path / "atelier.sql"
    await follow("supabase-sql", tmp_path, port, {"atelier.sql": str(sql)})
    own_postgres.psql(sql.read_text("utf-8"), "project", "project_admin")
    database = f"export DATABASE_URL={own_postgres.url('project', 'atelier_app')}\n"
    replaced = {
        "export ATELIER_AUTH=supabase": f"{database}export ATELIER_AUTH=supabase",
        "https://your-project.supabase.co": supabase.url,
        "sb_publishable_your-key": supabase.anon_key,
        "8a1f2c3d-0000-4000-8000-000000000000": user.id,
    }
    login = f'{{"email": "{EMAIL}", "password": "{PASSWORD}"}}'
    sign_in = f"{CURL} -H 'Content-Type: application/json' -d '{login}' {api(port)}/auth/login"
    shown = await follow("supabase", tmp_path, port, replaced, sign_in)
    assert '"role":"admin"' in shown
    assert '"refresh_token":"' in shown


async def test_cloudflare_access(tmp_path: Path, port: int, access: CloudflareAccess) -> None:
    replaced = {"=your-team ": f"={access.url} ", "your-audience-tag": AUDIENCE}
    token = access.user_token(EMAIL)
    me = f"{CURL} -H 'Cf-Access-Jwt-Assertion: {token}' {api(port)}/auth/me"
    shown = await follow("cloudflare", tmp_path, port, replaced, me)
    assert f"Added {EMAIL} (admin)" in shown
    assert f'"email":"{EMAIL}","role":"admin"' in shown


async def test_a_token_for_another_application_is_refused_and_nothing_redirects(
    tmp_path: Path, port: int, access: CloudflareAccess
) -> None:
    replaced = {"=your-team ": f"={access.url} ", "your-audience-tag": "of-another-application"}
    token = access.user_token(EMAIL)
    me = f"curl -sS -i -H 'Cf-Access-Jwt-Assertion: {token}' {api(port)}/auth/me"
    shown = await follow("cloudflare", tmp_path, port, replaced, me)
    assert "HTTP/1.1 401" in shown
    assert '"flaw": "audience"' in shown
    assert "Location:" not in shown

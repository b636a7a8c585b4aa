"""``doctor``: each setting with its source, what it points at, and never a secret."""

import json
from pathlib import Path
from typing import Any

import pytest
from cloudflare_access import AUDIENCE, CloudflareAccess
from command_line import carried_out
from databases import HEAD, PostgresStudios, migrated_file, sqlite_database
from signing_keys import HmacSecret
from supabase_emulator import SupabaseEmulator
from troubled_server import answering

from sidecar.comfyui.stand_in import StandIn
from sidecar.commands import doctor
from sidecar.database.sqlite import sync_engine
from sidecar.settings import Settings

NOWHERE = "http://127.0.0.1:1"
JWT_SECRET = "s3cret-" * 6


async def looked(environment: dict[str, object]) -> tuple[int, dict[str, list[str]]]:
    """The exit code, and what is said of each subject: ``level message``."""
    code, text = await carried_out(doctor, "doctor --json", environment)
    said: dict[str, list[str]] = {}
    for check in json.loads(text)["checks"]:
        said.setdefault(check["subject"], []).append(f"{check['level']} {check['message']}")
    return code, said


def everything_in(folder: Path) -> list[Path]:
    """Every file below a folder."""
    return sorted(folder.rglob("*"))


@pytest.fixture
def environment(tmp_path: Path, served_stand_in: tuple[StandIn, str]) -> dict[str, object]:
    """A whole studio beside a running ComfyUI."""
    return {
        "COMFYUI_URL": served_stand_in[1],
        "COMFYUI_LORAS_DIR": tmp_path / "loras",
        "ATELIER_DATA_DIR": tmp_path,
    }


async def test_a_whole_studio_is_well(tmp_path: Path, environment: dict[str, object]) -> None:
    migrated_file(tmp_path)
    before = everything_in(tmp_path)
    code, said = await looked(environment)
    assert code == 0
    assert all(line.startswith("ok ") for lines in said.values() for line in lines)
    assert said["database"] == [
        f"ok {tmp_path / 'atelier.db'} is at revision {HEAD}, which is this version's."
    ]
    assert said["LoRA folder"][1] == "ok ComfyUI lists what lies in it."
    assert said["sign-in"] == ["ok Nobody signs in: everyone is one account."]
    assert {"Python", "SQLite", "data folder", "blobs", "ComfyUI"} < said.keys()
    assert everything_in(tmp_path) == before


async def test_each_setting_is_shown_with_its_source() -> None:
    _, text = await carried_out(
        doctor, "doctor --json", {"COMFYUI_URL": NOWHERE, "ATELIER_PORT": 8190}
    )
    shown = {each["name"]: each for each in json.loads(text)["settings"]}
    assert shown.keys() == {field.alias for field in Settings.model_fields.values()}
    assert (shown["ATELIER_PORT"]["value"], shown["ATELIER_PORT"]["source"]) == (
        "8190",
        "environment",
    )
    assert shown["ATELIER_HOST"]["source"] == "default"
    assert shown["ATELIER_AUTH"]["value"] == "none"


@pytest.mark.parametrize("form", ["", " --json"])
async def test_no_secret_is_printed(form: str) -> None:
    environment: dict[str, object] = {
        "COMFYUI_URL": "http://ann:s3cret@127.0.0.1:1",
        "COMFYUI_WEB_PASSWORD": "s3cret",
        "DATABASE_URL": "postgresql://app:s3cret@127.0.0.1:1/x",
        "DATABASE_ADMIN_URL": "postgresql://admin:s3cret@127.0.0.1:1/x",
        "ATELIER_AUTH": "supabase",
        "SUPABASE_URL": "http://ann:s3cret@127.0.0.1:1",
        "SUPABASE_ANON_KEY": "s3cret",
        "SUPABASE_JWT_SECRET": JWT_SECRET,
        "ATELIER_PACK_TOKEN": "s3cret",
    }
    code, text = await carried_out(doctor, f"doctor{form}", environment)
    assert code == 1
    assert "s3cret" not in text
    assert "***@127.0.0.1:1" in text


async def test_the_text_for_people_says_how_each_thing_is(environment: dict[str, object]) -> None:
    code, text = await carried_out(doctor, "doctor", environment | {"COMFYUI_URL": NOWHERE})
    assert code == 0
    assert "COMFYUI_URL                   http://127.0.0.1:1 (environment)\n" in text
    assert "\nwarn  ComfyUI: ComfyUI cannot be reached.\n" in text
    assert "\nok    Python: " in text


async def test_something_in_the_way_of_a_folder_fails(
    tmp_path: Path, environment: dict[str, object]
) -> None:
    (tmp_path / "file").touch()
    code, said = await looked(environment | {"ATELIER_DATA_DIR": tmp_path / "file" / "data"})
    assert code == 1
    assert said["data folder"][0].startswith("FAIL ")
    assert said["blobs"][0].startswith("FAIL ")


async def test_a_folder_that_is_not_there_yet_is_not_made(
    tmp_path: Path, environment: dict[str, object]
) -> None:
    code, said = await looked(environment | {"ATELIER_DATA_DIR": tmp_path / "new"})
    assert code == 0
    assert "will be made" in said["data folder"][0]
    assert "will be made by the first start" in said["database"][0]
    assert not (tmp_path / "new").exists()


async def test_a_comfyui_that_lists_another_folder_fails(
    tmp_path: Path, environment: dict[str, object]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    code, said = await looked(environment | {"COMFYUI_LORAS_DIR": tmp_path / "elsewhere"})
    assert code == 1
    assert "extra_model_paths.yaml" in said["LoRA folder"][1]
    assert list((tmp_path / "elsewhere").iterdir()) == []


async def test_a_wrong_password_for_comfyui_fails(
    stand_in: StandIn, environment: dict[str, object]
) -> None:
    stand_in.answer_status = 401
    code, said = await looked(environment)
    assert code == 1
    assert "COMFYUI_WEB_PASSWORD" in said["ComfyUI"][0]


@pytest.mark.parametrize(
    ("revision", "level", "message"),
    [
        ("0001", "warn", f"is at revision 0001; the next start or `migrate` takes it to {HEAD}."),
        (
            "9999",
            "FAIL",
            f"is at revision 9999, which this version does not know: it knows {HEAD}.",
        ),
    ],
)
async def test_a_file_of_another_version_is_told(
    tmp_path: Path, environment: dict[str, object], revision: str, level: str, message: str
) -> None:
    engine = sync_engine(migrated_file(tmp_path))
    with engine.begin() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = ?", (revision,))
    engine.dispose()
    code, said = await looked(environment)
    assert said["database"] == [f"{level} {tmp_path / 'atelier.db'} {message}"]
    assert code == (1 if level == "FAIL" else 0)


async def test_a_file_that_is_no_database_fails(
    tmp_path: Path, environment: dict[str, object]
) -> None:
    (tmp_path / "atelier.db").write_bytes(b"this is no database" * 100)
    code, said = await looked(environment)
    assert code == 1
    assert "file is not a database" in said["database"][0]


async def test_a_file_that_is_in_use_can_be_looked_at(
    tmp_path: Path, environment: dict[str, object]
) -> None:
    async with sqlite_database(migrated_file(tmp_path)) as database:
        await database.check()
        code, said = await looked(environment)
    assert code == 0
    assert said["database"][0].startswith("ok ")


async def test_postgres_is_tried_as_the_sidecars_own_login(
    environment: dict[str, object], postgres: PostgresStudios, postgres_name: str
) -> None:
    code, said = await looked(environment | {"DATABASE_URL": postgres.url(postgres_name)})
    assert code == 0
    assert said["database"][0].startswith("ok Postgres ")
    assert said["row-level security"] == [
        "ok It binds: atelier_app was refused another account's rows when it tried."
    ]


async def test_each_hole_in_row_level_security_is_a_line(
    environment: dict[str, object], postgres: PostgresStudios, postgres_name: str
) -> None:
    for sql in (
        "alter table atelier.sessions no force row level security",
        "alter table atelier.comfyui_workflows disable row level security",
    ):
        postgres.server.psql(sql, postgres_name)
    code, said = await looked(environment | {"DATABASE_URL": postgres.url(postgres_name)})
    assert code == 1
    assert "FAIL table sessions: row-level security is not forced." in said["row-level security"]
    assert (
        "FAIL tried: somebody without a row saw one in comfyui_workflows."
        in said["row-level security"]
    )


async def test_the_owner_as_login_fails(
    environment: dict[str, object], postgres: PostgresStudios, postgres_name: str
) -> None:
    code, said = await looked(environment | {"DATABASE_URL": postgres.admin_url(postgres_name)})
    assert code == 1
    assert said["row-level security"] == [
        "FAIL login postgres is a superuser, whom no policy binds."
    ]


async def test_a_postgres_that_is_not_migrated_or_not_there_fails(
    environment: dict[str, object], postgres: PostgresStudios
) -> None:
    name = postgres.empty()
    code, said = await looked(environment | {"DATABASE_URL": postgres.url(name)})
    assert code == 1
    assert "Run `python -m sidecar migrate` with DATABASE_ADMIN_URL" in said["database"][0]
    postgres.server.drop_database(name)
    code, said = await looked(environment | {"DATABASE_URL": postgres.url(name)})
    assert code == 1
    assert f'database "{name}" does not exist' in said["database"][0]


def supabase(url: str, **more: object) -> dict[str, object]:
    """Settings for sign-in through Supabase."""
    base = {"ATELIER_AUTH": "supabase", "SUPABASE_URL": url, "SUPABASE_ANON_KEY": "key"}
    return {**base, **more}


async def test_the_keys_of_a_supabase_project_are_counted(environment: dict[str, object]) -> None:
    project = SupabaseEmulator()
    async with project.serving() as url:
        code, said = await looked(environment | supabase(url))
    assert code == 0
    assert said["Supabase Auth"] == ["ok Signing keys that can be used: 1."]


async def test_a_project_with_its_legacy_secret_alone_needs_it(
    environment: dict[str, object],
) -> None:
    project = SupabaseEmulator(signer=HmacSecret(JWT_SECRET.encode()))
    async with project.serving() as url:
        code, said = await looked(environment | supabase(url))
        assert code == 1
        assert "set SUPABASE_JWT_SECRET" in said["Supabase Auth"][0]
        code, said = await looked(environment | supabase(url, SUPABASE_JWT_SECRET=JWT_SECRET))
        assert code == 0
        assert "checked with SUPABASE_JWT_SECRET" in said["Supabase Auth"][0]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"status": 500}, "it answered with status 500"),
        ({"status": 302, "headers": {"Location": "/elsewhere"}}, "it answered with status 302"),
        ({"body": b"<html>"}, "what it answered is no set of keys"),
        ({"body": b"[" * 100_000}, "what it answered is no set of keys"),
        ({"body": b" " * 300_000}, "its answer has no end"),
    ],
)
async def test_a_project_that_answers_strangely_fails(
    environment: dict[str, object], answer: dict[str, Any], why: str
) -> None:
    project = SupabaseEmulator()
    project.trouble["jwks"] = answering(**answer)
    async with project.serving() as url:
        code, said = await looked(environment | supabase(url))
    assert code == 1
    assert said["Supabase Auth"] == [f"FAIL Its signing keys cannot be had: {why}."]


async def test_the_keys_of_a_cloudflare_team_are_counted(environment: dict[str, object]) -> None:
    team = CloudflareAccess()
    async with team.serving() as url:
        access = {"ATELIER_AUTH": "cloudflare", "CF_ACCESS_TEAM": url, "CF_ACCESS_AUD": AUDIENCE}
        code, said = await looked(environment | access)
        assert code == 0
        assert said["Cloudflare Access"] == ["ok Signing keys that can be used: 1."]
        team.published = []
        code, said = await looked(environment | access)
        assert code == 1
    code, said = await looked(environment | access)
    assert code == 1
    assert "cannot be reached" in said["Cloudflare Access"][0]


async def test_a_setting_of_cloudflare_that_cannot_be_read_fails(
    environment: dict[str, object],
) -> None:
    access = {
        "ATELIER_AUTH": "cloudflare",
        "CF_ACCESS_TEAM": NOWHERE,
        "CF_ACCESS_AUD": AUDIENCE,
        "CF_ACCESS_SERVICE_TOKENS": "no equals sign",
    }
    code, said = await looked(environment | access)
    assert code == 1
    assert any("CF_ACCESS_SERVICE_TOKENS" in line for line in said["sign-in"])


async def test_a_studio_without_an_admin_is_told(
    environment: dict[str, object], postgres: PostgresStudios, postgres_name: str
) -> None:
    local = environment | {"ATELIER_AUTH": "local", "DATABASE_URL": postgres.url(postgres_name)}
    code, said = await looked(local)
    assert code == 0
    assert said["sign-in"] == [
        "warn By local; there is no admin: `python -m sidecar users add EMAIL`."
    ]
    postgres.server.psql(
        "insert into atelier.accounts (id, role, created_at) values (gen_random_uuid(), 'admin',"
        " now())",
        postgres_name,
    )
    _, said = await looked(local)
    assert said["sign-in"] == ["ok By local; admins: 1."]


async def test_a_studio_that_is_open_to_the_network_is_told(
    environment: dict[str, object],
) -> None:
    code, said = await looked(environment | {"ATELIER_HOST": "::"})
    assert code == 0
    assert said["sign-in"][0].startswith("warn Nobody signs in, and the sidecar listens on ::")

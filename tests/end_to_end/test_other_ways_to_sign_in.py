"""The whole sidecar behind Supabase Auth and behind Cloudflare Access."""

from pathlib import Path

from cloudflare_access import AUDIENCE, CloudflareAccess
from studio import drawing, settings_for, studio
from supabase_emulator import SupabaseEmulator
from troubled_server import answering

PASSWORD = "correct horse battery"
NOWHERE = "http://127.0.0.1:1"


async def test_a_user_of_supabase_signs_in_stays_and_signs_out(tmp_path: Path) -> None:
    supabase = SupabaseEmulator()
    supabase.add_user("ann@example.org", PASSWORD)
    async with supabase.serving() as url:
        settings = settings_for(
            tmp_path,
            NOWHERE,
            ATELIER_AUTH="supabase",
            SUPABASE_URL=url,
            SUPABASE_ANON_KEY=supabase.anon_key,
        )
        async with studio(settings) as client:
            order = {"email": "ann@example.org", "password": PASSWORD}
            status, signed_in = await client.ask("POST", "/auth/login", json=order)
            assert (status, signed_in["account"]["email"]) == (200, "ann@example.org")
            client.session.cookie_jar.clear()
            ann = {"Authorization": f"Bearer {signed_in['access_token']}"}
            status, workflow = await client.ask(
                "POST", "/workflows", json={"name": "x", "workflow_json": drawing()}, headers=ann
            )
            assert status == 201

            renewal = {"refresh_token": signed_in["refresh_token"]}
            status, renewed = await client.ask("POST", "/auth/refresh", json=renewal, headers=ann)
            assert status == 200
            assert renewed["account"]["id"] == signed_in["account"]["id"]

            for endpoint in ("token", "logout", "user"):
                supabase.trouble[endpoint] = answering(b"down", 503)
            status, answer = await client.ask("POST", "/auth/login", json=order)
            assert (status, answer["error"]["details"]["system"]) == (503, "supabase_auth")
            still = {"Authorization": f"Bearer {renewed['access_token']}"}
            client.session.cookie_jar.clear()
            path = f"/workflows/{workflow['id']}"
            assert (await client.ask("GET", path, headers=still))[0] == 200


async def test_cloudflare_says_who_somebody_is(tmp_path: Path) -> None:
    access = CloudflareAccess()
    async with access.serving() as url:
        settings = settings_for(
            tmp_path,
            NOWHERE,
            ATELIER_AUTH="cloudflare",
            CF_ACCESS_TEAM=url,
            CF_ACCESS_AUD=AUDIENCE,
        )
        async with studio(settings) as client:
            assert (await client.ask("GET", "/workflows"))[0] == 401
            ann = {"Cf-Access-Jwt-Assertion": access.user_token("Ann@Example.org")}
            status, me = await client.ask("GET", "/auth/me", headers=ann)
            assert (status, me["account"]["email"]) == (200, "ann@example.org")
            order = {"name": "x", "workflow_json": drawing()}
            status, answer = await client.ask("POST", "/workflows", json=order, headers=ann)
            assert (status, answer["error"]["code"]) == (403, "header_missing")
            write = {**ann, "X-Atelier": "1"}
            assert (await client.ask("POST", "/workflows", json=order, headers=write))[0] == 201
            machine = {"Cf-Access-Jwt-Assertion": access.service_token("abc.access")}
            status, answer = await client.ask("GET", "/workflows", headers=machine)
            assert (status, answer["error"]["code"]) == (401, "service_token_not_mapped")


async def test_without_sign_in_what_a_proxy_adds_means_nothing(tmp_path: Path) -> None:
    async with studio(settings_for(tmp_path, NOWHERE)) as client:
        headers = {"Cf-Access-Jwt-Assertion": "anything", "Cookie": "atelier_session=old"}
        order = {"name": "x", "workflow_json": drawing()}
        assert (await client.ask("POST", "/workflows", json=order, headers=headers))[0] == 201

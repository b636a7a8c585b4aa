"""The page to sign in on: there where anybody signs in, and closed to everybody else's code."""

import re
from pathlib import Path

from studio import settings_for, studio

NOWHERE = "http://127.0.0.1:1"
PAGE = "/sign-in"


async def test_where_nobody_signs_in_there_is_no_page(tmp_path: Path) -> None:
    async with studio(settings_for(tmp_path, NOWHERE)) as client:
        assert (await client.ask("GET", PAGE))[0] == 404


async def test_only_its_own_script_runs_on_it_and_nobody_frames_it(tmp_path: Path) -> None:
    async with studio(settings_for(tmp_path, NOWHERE, ATELIER_AUTH="local")) as client:
        seen = []
        for _ in "12":
            async with client.session.get(client.api + PAGE) as answer:
                assert (answer.status, answer.content_type) == (200, "text/html")
                policy, text = answer.headers["Content-Security-Policy"], await answer.text()
            nonce = re.search(r"script-src 'nonce-([\w-]+)'", policy)
            assert nonce
            assert re.findall(r"<script[^>]*>", text) == [f'<script nonce="{nonce[1]}">']
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert not re.search(r"\son\w+=|innerHTML", text)
            seen.append(nonce[1])
        assert seen[0] != seen[1]

"""Where a request comes from, as far as it can be believed."""

import pytest
from aiohttp import web

from sidecar.http.client_address import client_address

PACK_TOKEN = "only the pack knows this"


async def tell_where(request: web.Request) -> web.Response:
    """Answer where it is from."""
    return web.Response(text=client_address(request))


async def address(serve, headers: dict[str, str]) -> str:
    client = await serve(tell_where)
    async with client.get("/thing", headers=headers) as response:
        return str(await response.text())


@pytest.mark.parametrize(
    ("forwarded", "found"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7, 10.0.0.1", "192.0.2.7"),
        (" 2001:DB8::7 ", "2001:db8::7"),
        ("somebody", "127.0.0.1"),
        ("", "127.0.0.1"),
        ("192.0.2.7:1234", "127.0.0.1"),
        ("\udcff", "127.0.0.1"),
    ],
)
async def test_what_the_pack_says_counts_when_it_is_an_address(serve, forwarded, found):
    headers = {"X-Forwarded-For": forwarded, "X-Atelier-Pack": PACK_TOKEN}
    assert await address(serve, headers) == found


@pytest.mark.parametrize("token", [None, "", "guess", "\udcff"])
async def test_what_others_say_does_not(serve, token):
    headers = {"X-Forwarded-For": "192.0.2.7"}
    if token is not None:
        headers["X-Atelier-Pack"] = token
    assert await address(serve, headers) == "127.0.0.1"

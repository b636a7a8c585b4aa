"""Cloudflare Access: the certs of a team, and the tokens that it puts on requests."""

import time
import uuid
from collections.abc import Callable
from typing import Any

from aiohttp import web
from signing_keys import SigningKey, rs256
from troubled_server import TroubledServer

AUDIENCE = "4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2"
"""The tag of the one application."""
TOKEN_SECONDS = 24 * 3600


class CloudflareAccess(TroubledServer):
    """One team with one application. The endpoint's name is ``certs``."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._now = now
        self.signer: SigningKey = rs256("cloudflare")
        self.published = [self.signer]

    def routes(self) -> list[web.RouteDef]:
        """See TroubledServer."""
        return [web.get("/cdn-cgi/access/certs", self._certs, name="certs")]

    def user_token(self, address: str, /, **changes: Any) -> str:
        """The token of somebody who has signed in; a change to None leaves the claim out."""
        more = {"email": address, "sub": str(uuid.uuid5(uuid.NAMESPACE_URL, address))}
        return self._token({**more, "identity_nonce": "6ei69kawdKzMIAPF", "country": "PT"}, changes)

    def service_token(self, client_id: str, **changes: Any) -> str:
        """The token of a machine that showed a client id and secret."""
        return self._token({"common_name": client_id, "sub": ""}, changes)

    def _token(self, claims: dict[str, Any], changes: dict[str, Any]) -> str:
        now = int(self._now())
        said = {
            "type": "app",
            "aud": [AUDIENCE],
            "iss": self.url,
            "exp": now + TOKEN_SECONDS,
            "iat": now,
            "nbf": now,
            **claims,
            **changes,
        }
        return self.signer.sign({name: value for name, value in said.items() if value is not None})

    async def _certs(self, _request: web.Request) -> web.Response:
        pems = [{"kid": key.kid, "cert": key.pem.decode()} for key in self.published]
        keys = [key.jwk for key in self.published]
        return web.json_response(
            {"keys": keys, "public_cert": pems[0] if pems else None, "public_certs": pems}
        )

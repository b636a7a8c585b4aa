"""Supabase Auth, as far as signing in with a password goes: its endpoints, answers and codes.

    python tests/fakes/supabase_emulator.py --port 54321 --user ada@example.com:correct-horse

serves until Ctrl-C, and prints one line of JSON with ``url`` and ``anon_key``. This file may not
be named after the package ``supabase_auth``: it would hide that from the client under test.
"""

import argparse
import asyncio
import contextlib
import json
import secrets
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import jwt
from aiohttp import web
from signing_keys import HmacSecret, Signer, SigningKey, es256
from troubled_server import TroubledServer

API_VERSION = "X-Supabase-Api-Version"
TOKEN_SECONDS = 3600


@dataclass
class User:
    """Somebody who has signed up."""

    email: str
    password: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    confirmed: bool = True
    banned: bool = False
    anonymous: bool = False


@dataclass
class RefreshToken:
    """Good for one refresh."""

    user_id: str
    session_id: str
    used: bool = False


class RefusedError(Exception):
    """An error answer of Supabase Auth."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class SupabaseEmulator(TroubledServer):
    """One project. Endpoints: ``jwks``, ``token``, ``logout``, ``user``.

    ``signer`` signs new tokens, ``published`` are the keys that the JWKS shows: both may be changed
    at any time, which is how keys are rotated.
    """

    def __init__(
        self, *, now: Callable[[], float] = time.time, signer: Signer | None = None
    ) -> None:
        super().__init__()
        self._now = now
        self.anon_key = "sb_publishable_" + secrets.token_urlsafe(16)
        self.signer: Signer = es256("first") if signer is None else signer
        self.published = [self.signer] if isinstance(self.signer, SigningKey) else []
        self.users: dict[str, User] = {}
        self._refresh_tokens: dict[str, RefreshToken] = {}
        self._sessions: set[str] = set()

    @property
    def issuer(self) -> str:
        """What its tokens say made them."""
        return f"{self.url}/auth/v1"

    def add_user(self, email: str, password: str, **more: Any) -> User:
        """Somebody signs up."""
        user = User(email, password, **more)
        self.users[user.id] = user
        return user

    def delete_user(self, user: User) -> None:
        """As the dashboard does: their sessions go too."""
        del self.users[user.id]
        for token, kept in list(self._refresh_tokens.items()):
            if kept.user_id == user.id:
                self._sessions.discard(kept.session_id)
                del self._refresh_tokens[token]

    def claims(self, user: User, **changes: Any) -> dict[str, Any]:
        """What an access token says; a change to None leaves the claim out."""
        now = int(self._now())
        said = {
            "iss": self.issuer,
            "sub": user.id,
            "aud": "authenticated",
            "exp": now + TOKEN_SECONDS,
            "iat": now,
            "email": user.email,
            "phone": "",
            "app_metadata": {"provider": "email", "providers": ["email"]},
            "user_metadata": {"email": user.email, "sub": user.id},
            "role": "authenticated",
            "aal": "aal1",
            "amr": [{"method": "password", "timestamp": now}],
            "session_id": str(uuid.uuid4()),
            "is_anonymous": user.anonymous,
            **changes,
        }
        return {name: value for name, value in said.items() if value is not None}

    def token(self, user: User, **changes: Any) -> str:
        """An access token, with changed claims."""
        return self.signer.sign(self.claims(user, **changes))

    def begin_session(self, user: User) -> dict[str, Any]:
        """What a sign-in answers."""
        session_id = str(uuid.uuid4())
        self._sessions.add(session_id)
        return self._session(user, session_id)

    def routes(self) -> list[web.RouteDef]:
        """See TroubledServer."""
        return [
            web.get("/auth/v1/.well-known/jwks.json", self._jwks, name="jwks"),
            web.post("/auth/v1/token", self._guarded(self._token), name="token"),
            web.post("/auth/v1/logout", self._guarded(self._logout), name="logout"),
            web.get("/auth/v1/user", self._guarded(self._user), name="user"),
        ]

    async def _jwks(self, _request: web.Request) -> web.Response:
        return web.json_response({"keys": [key.jwk for key in self.published]})

    def _guarded(self, handler: Any) -> Any:
        async def check(request: web.Request) -> web.StreamResponse:
            if request.headers.get("apikey") != self.anon_key:  # the gateway's answer has no code
                refusal = {"message": "Invalid API key", "hint": "Double check your API key."}
                return web.json_response(refusal, status=401)
            try:
                response: web.StreamResponse = await handler(request)
            except RefusedError as error:
                response = _error_answer(request, error)
            response.set_cookie("__cf_bm", secrets.token_urlsafe(8))
            return response

        return check

    async def _token(self, request: web.Request) -> web.Response:
        body = await request.json()
        if request.query.get("grant_type") == "password":
            return web.json_response(self.begin_session(self._signed_in(body)))
        if request.query.get("grant_type") == "refresh_token":
            return web.json_response(self._refreshed(body.get("refresh_token", "")))
        raise RefusedError(400, "validation_failed", "unsupported grant_type")

    def _signed_in(self, body: Mapping[str, Any]) -> User:
        asked = str(body.get("email", "")).lower()
        user = next((one for one in self.users.values() if one.email.lower() == asked), None)
        if user is None or user.password != body.get("password"):
            raise RefusedError(400, "invalid_credentials", "Invalid login credentials")
        if user.banned:
            raise RefusedError(400, "user_banned", "User is banned")
        if not user.confirmed:
            raise RefusedError(400, "email_not_confirmed", "Email not confirmed")
        return user

    def _refreshed(self, token: str) -> dict[str, Any]:
        kept = self._refresh_tokens.get(token)
        if kept is None:
            raise RefusedError(400, "refresh_token_not_found", "Refresh Token Not Found")
        if kept.session_id not in self._sessions:
            raise RefusedError(400, "session_not_found", "Session Not Found")
        if kept.used:  # whoever comes second may be a thief: the session ends
            self._sessions.discard(kept.session_id)
            raise RefusedError(400, "refresh_token_already_used", "Already Used")
        user = self.users[kept.user_id]
        if user.banned:
            raise RefusedError(400, "user_banned", "User Banned")
        kept.used = True
        return self._session(user, kept.session_id)

    def _session(self, user: User, session_id: str) -> dict[str, Any]:
        refresh_token = secrets.token_urlsafe(12)
        self._refresh_tokens[refresh_token] = RefreshToken(user.id, session_id)
        return {
            "access_token": self.token(user, session_id=session_id),
            "token_type": "bearer",
            "expires_in": TOKEN_SECONDS,
            "expires_at": int(self._now()) + TOKEN_SECONDS,
            "refresh_token": refresh_token,
            "user": _user_object(user, self._now()),
        }

    async def _logout(self, request: web.Request) -> web.Response:
        claims = self._bearer(request)
        if request.query.get("scope", "global") == "global":
            mine = [kept for kept in self._refresh_tokens.values() if kept.user_id == claims["sub"]]
            self._sessions -= {kept.session_id for kept in mine}
        self._sessions.discard(claims["session_id"])
        return web.Response(status=204)

    async def _user(self, request: web.Request) -> web.Response:
        user = self.users[self._bearer(request)["sub"]]
        return web.json_response(_user_object(user, self._now()))

    def _bearer(self, request: web.Request) -> dict[str, Any]:
        """The claims of the token that was shown."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            claims = self.signer.read(token)
        except jwt.PyJWTError:
            raise RefusedError(403, "bad_jwt", "invalid JWT: signature is invalid") from None
        if claims["exp"] <= self._now():
            raise RefusedError(403, "bad_jwt", "invalid JWT: token is expired")
        if claims["sub"] not in self.users:
            raise RefusedError(403, "user_not_found", "User from sub claim in JWT does not exist")
        if claims["session_id"] not in self._sessions:
            raise RefusedError(403, "session_not_found", "Session from session_id claim is gone")
        return claims


def _error_answer(request: web.Request, error: RefusedError) -> web.Response:
    version = request.headers.get(API_VERSION)
    if version is not None and version >= "2024-01-01":
        body: dict[str, Any] = {"code": error.code, "message": error.message}
        return web.json_response(body, status=error.status, headers={API_VERSION: "2024-01-01"})
    body = {"code": error.status, "error_code": error.code, "msg": error.message}
    return web.json_response(body, status=error.status)


def _user_object(user: User, now: float) -> dict[str, Any]:
    at = datetime.fromtimestamp(now, timezone.utc).isoformat()
    return {
        "id": user.id,
        "aud": "authenticated",
        "role": "authenticated",
        "email": user.email,
        "email_confirmed_at": at if user.confirmed else None,
        "phone": "",
        "last_sign_in_at": at,
        "app_metadata": {"provider": "email", "providers": ["email"]},
        "user_metadata": {"email": user.email, "sub": user.id},
        "identities": [],
        "created_at": at,
        "updated_at": at,
        "is_anonymous": user.anonymous,
    }


async def serve(asked: argparse.Namespace) -> None:
    """Serve until cancelled."""
    signer = HmacSecret(asked.jwt_secret.encode()) if asked.jwt_secret else es256("emulator")
    emulator = SupabaseEmulator(signer=signer)
    for user in asked.user:
        emulator.add_user(*user.split(":", 1))
    async with emulator.serving(asked.port) as url:
        sys.stdout.write(json.dumps({"url": url, "anon_key": emulator.anon_key}) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def main() -> None:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser(description="Supabase Auth for trying things out.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--user", action="append", default=[], metavar="EMAIL:PASSWORD")
    parser.add_argument("--jwt-secret", help="sign with HS256 and this secret, as old projects do")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()

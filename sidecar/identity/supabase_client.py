"""Sign-in, refresh and sign-out with the ``supabase`` client; the one module that names it.

A client object holds one signed-in person, so each call makes its own. What costs time to make, the
connections and their TLS context, is shared; cookies are not.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TypeAlias, TypeVar

import httpx
from supabase import (
    ASupabaseAuthClient,
    AsyncClientOptions,
    AuthApiError,
    acreate_client,
)
from supabase_auth.types import AuthResponse

from ..errors import AtelierError, QuotaError, UnauthenticatedError, UnavailableError
from . import Grant
from .supabase_tokens import SYSTEM, SupabaseTokens

DEADLINE_SECONDS = 20.0
"""For one call as a whole; httpx's own limits are for each read."""
RETRY_AFTER_SECONDS = 30

BAD_LOGIN = frozenset(
    {
        "invalid_credentials",
        "email_not_confirmed",
        "phone_not_confirmed",
        "provider_email_needs_verification",
        "user_banned",
        "user_not_found",
        "user_sso_managed",
        "email_address_invalid",
        "validation_failed",
    }
)
SESSION_ENDED = frozenset(
    {
        "refresh_token_not_found",
        "refresh_token_already_used",
        "session_not_found",
        "session_expired",
        "user_not_found",
        "user_banned",
        "bad_jwt",
        "invalid_jwt",
        "no_authorization",
        "validation_failed",
    }
)
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")

T = TypeVar("T")
Ask: TypeAlias = Callable[[ASupabaseAuthClient], Awaitable[T]]

log = logging.getLogger(__name__)


class SupabaseSignIn:
    """A PasswordSignIn. A token that comes back is believed once ``tokens`` has checked it."""

    def __init__(
        self,
        url: str,
        publishable_key: str,
        tokens: SupabaseTokens,
        *,
        deadline: float = DEADLINE_SECONDS,
    ) -> None:
        self._url = url
        self._deadline = deadline
        self._key = publishable_key
        self._tokens = tokens
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(10.0, connect=5.0),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def sign_in(self, email: str, password: str) -> Grant:
        """See PasswordSignIn."""

        async def ask(auth: ASupabaseAuthClient) -> AuthResponse:
            return await auth.sign_in_with_password({"email": email, "password": password})

        refusal = UnauthenticatedError(
            "bad_login", "The e-mail or the password is wrong, or this account may not sign in."
        )
        if not (email and password and _is_unicode(email + password)):
            raise refusal
        return await self._grant(await self._call(ask, BAD_LOGIN, refusal))

    async def refresh(self, refresh_token: str) -> Grant:
        """See PasswordSignIn. Also UnauthenticatedError("anonymous_user")."""

        async def ask(auth: ASupabaseAuthClient) -> AuthResponse:
            return await auth.refresh_session(refresh_token)

        refusal = UnauthenticatedError("bad_refresh_token", "This session has ended; sign in.")
        if not (refresh_token and _is_unicode(refresh_token)):
            raise refusal
        return await self._grant(await self._call(ask, SESSION_ENDED, refusal))

    async def sign_out(self, access_token: str) -> None:
        """See PasswordSignIn."""

        async def ask(auth: ASupabaseAuthClient) -> None:
            # the client's own sign_out sends nothing for a session that it did not begin
            await auth.admin.sign_out(access_token, "local")

        ended = UnauthenticatedError("session_ended", "This session has ended already.")
        if _TOKEN.fullmatch(access_token):  # anything else cannot be put into a header
            with suppress(UnauthenticatedError):
                await self._call(ask, SESSION_ENDED, ended)

    async def _call(self, ask: Ask[T], codes: Collection[str], refusal: AtelierError) -> T:
        """Ask; ``refusal`` when the answer is one of these codes.

        What the client raises is not passed on as a cause: its text may hold what was sent.
        """
        try:
            return await asyncio.wait_for(self._ask(ask), self._deadline)
        except AuthApiError as error:
            raise _refused(error.status, error.code, codes, refusal) from None
        # Reading an odd answer, the client fails with whatever the answer makes it fail with:
        # TypeError, AttributeError, pydantic's ValidationError, and in each version others.
        except Exception as error:
            log.warning("supabase_auth.away", extra={"reason": type(error).__name__})
            raise UnavailableError(SYSTEM, "Supabase Auth does not answer as it should.") from None

    async def _ask(self, ask: Ask[T]) -> T:
        options = AsyncClientOptions(
            auto_refresh_token=False,
            persist_session=False,
            flow_type="implicit",
            httpx_client=self._http,
        )
        return await ask((await acreate_client(self._url, self._key, options)).auth)

    async def _grant(self, answer: AuthResponse) -> Grant:
        session = answer.session
        if session is None:
            raise UnavailableError(SYSTEM, "Supabase Auth answered without a session.")
        try:
            token = await self._tokens.verify(session.access_token)
        except UnauthenticatedError as error:
            if error.code == "anonymous_user":
                raise
            flaw = error.details.get("flaw", error.code)
            log.warning("supabase_auth.token_not_verified", extra={"flaw": flaw})
            raise UnavailableError(
                SYSTEM,
                "Supabase Auth gave a token that cannot be verified here: check SUPABASE_URL, "
                "SUPABASE_JWT_SECRET and this machine's clock.",
                {"flaw": flaw},
            ) from None
        return Grant(session.access_token, session.refresh_token, token.expires_at, token.identity)


def _refused(
    status: int, code: str | None, codes: Collection[str], refusal: AtelierError
) -> AtelierError:
    """What an error answer means. Servers from before there were codes answer 400 without one."""
    if status == 429 or code == "over_request_rate_limit":
        return QuotaError(
            "too_many_logins",
            "Supabase Auth takes no more sign-ins for now.",
            {"retry_after": RETRY_AFTER_SECONDS},
        )
    if status < 500 and (code in codes or (code is None and status == 400)):
        return refusal
    log.warning("supabase_auth.refused", extra={"status": status, "code": str(code)[:64]})
    if status == 401:
        return UnavailableError(
            SYSTEM, "Supabase does not take this studio's key: check SUPABASE_ANON_KEY."
        )
    return UnavailableError(SYSTEM, "Supabase Auth does not answer as it should.")


def _is_unicode(text: str) -> bool:
    """Whether it can be sent: JSON may hold half a surrogate, UTF-8 may not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

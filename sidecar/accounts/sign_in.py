"""Signing in with a password, staying so, and signing out."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from ..clock import Clock, NewId
from ..database import Database
from ..errors import (
    ForbiddenError,
    QuotaError,
    StorageFullError,
    TimedOutError,
    UnauthenticatedError,
    UnavailableError,
)
from ..identity import Grant, PasswordSignIn, TokenCheck
from ..principal import SYSTEM, Credentials, normal_email
from .authentication import enabled, lasts_by_use, session_ended, sign_in_required
from .models import Session, SignedIn
from .opaque_tokens import (
    API,
    SESSION,
    Secret,
    cookie_token_of,
    session_token_of,
    sha256_of,
)
from .passwords import Passwords
from .store import AccountDirectory, CredentialDirectory
from .throttle import Attempt, LoginThrottle
from .vouched import VouchedAccounts

USER_AGENT_LENGTH = 300
ADDRESS_LENGTH = 100

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Proof:
    """Whose password it was: as this hash has it, or as Supabase Auth said."""

    account_id: UUID
    password_hash: str | None = None
    renewed_hash: str | None = None
    grant: Grant | None = None


class SignIn:
    """Passwords of our own (``local``) are tried first, then Supabase Auth's (``supabase``)."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        new_id: NewId,
        secret: Secret,
        passwords: Passwords,
        throttle: LoginThrottle,
        vouched: VouchedAccounts,
        *,
        ways: Sequence[str],
        session_seconds: int,
        supabase: PasswordSignIn | None = None,
        supabase_tokens: TokenCheck | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id
        self._secret = secret
        self._passwords = passwords
        self._throttle = throttle
        self._vouched = vouched
        self._ways = tuple(ways)
        self._session_length = timedelta(seconds=session_seconds)
        self._supabase = supabase
        self._supabase_tokens = supabase_tokens

    async def sign_in(self, email: str, password: str, address: str, user_agent: str) -> SignedIn:
        """A new session, always under a token of its own.

        UnauthenticatedError("bad_login"), the same for a wrong password and for nobody's name, and
        ("account_disabled") for the right password; QuotaError("too_many_logins");
        ForbiddenError("no_passwords_here"); UnavailableError("supabase_auth").
        """
        if "local" not in self._ways and self._supabase is None:
            raise ForbiddenError(
                "no_passwords_here",
                "Nobody signs in with a password here.",
                {"ways": list(self._ways)},
            )
        name = normal_email(email)
        attempt = self._throttle.attempt(name, address)
        try:
            signed_in = await self._begun(attempt, name, password, address, user_agent)
        except (QuotaError, UnavailableError, TimedOutError, StorageFullError):
            attempt.never_was()
            raise
        except UnauthenticatedError as error:
            log.info("sign_in.refused", extra={"code": error.code, "address": address})
            raise
        attempt.succeeded()
        return signed_in

    async def refresh(self, shown: Credentials, refresh_token: str | None) -> SignedIn:
        """Stay signed in: the session shown lasts anew, or Supabase Auth gives new tokens.

        UnauthenticatedError("sign_in_required", "session_ended", "bad_refresh_token",
        "account_disabled"), and what Supabase Auth raises.
        """
        if refresh_token is not None:
            return await self._refresh_elsewhere(shown, refresh_token)
        token = session_token_of(shown)
        if token is None:
            raise session_ended() if shown.are_there else sign_in_required(self._ways)
        signed_in = await self._prolong(token, None)
        if signed_in is None:
            raise session_ended()
        by_cookie = shown.bearer is None
        return replace(
            signed_in,
            access_token=None if by_cookie else token,
            session_token=token if by_cookie else None,
        )

    async def sign_out(self, shown: Credentials) -> None:
        """End the sessions shown, here and at Supabase Auth. Nothing good shown is no error.

        An API token stays: it is deleted, not signed out. UnavailableError("supabase_auth") once
        what is ours has ended.
        """
        for token in {session_token_of(shown), cookie_token_of(shown)} - {None}:
            async with self._database.transaction(SYSTEM) as tx:
                ended = await CredentialDirectory(tx).end_session(sha256_of(token or ""))
            if ended is not None:
                log.info("session.ended", extra={"session": str(ended)})
        if shown.bearer is not None and not shown.bearer.startswith((SESSION, API)):
            await self._sign_out_elsewhere(shown.bearer)

    async def _begun(
        self, attempt: Attempt, name: str, password: str, address: str, user_agent: str
    ) -> SignedIn:
        for _ in range(2):  # once more when the hash was renewed between its check and its use
            proof = await self._prove(attempt, name, password)
            signed_in = await self._begin_session(proof, address, user_agent)
            if signed_in is not None:
                return signed_in
        raise _bad_login()

    async def _prove(self, attempt: Attempt, name: str, password: str) -> _Proof:
        if "local" in self._ways:
            proof = await self._prove_here(name, password)
            if proof is not None:
                return proof
            attempt.was_judged()  # also when Supabase does not answer
        if self._supabase is None:
            raise _bad_login()
        grant = await self._supabase.sign_in(name, password)
        account = await self._vouched.account_of(grant.identity)
        return _Proof(account.id, grant=grant)

    async def _prove_here(self, name: str, password: str) -> _Proof | None:
        async with self._database.transaction(SYSTEM, read_only=True) as tx:
            found = await AccountDirectory(tx).with_password(name)
        stored = None if found is None else found[1]
        matches = await self._passwords.verify(stored, password)
        if found is None or stored is None or not matches:
            return None
        renewed = None
        if self._passwords.is_outdated(stored):
            renewed = await self._passwords.hash(password)
        return _Proof(found[0].id, stored, renewed)

    async def _begin_session(self, proof: _Proof, address: str, user_agent: str) -> SignedIn | None:
        """None when the password was changed since it was checked."""
        now, token = self._clock.now(), SESSION + self._secret()
        session = Session(
            id=self._new_id(),
            user_agent=_plain(user_agent, USER_AGENT_LENGTH),
            address=_plain(address, ADDRESS_LENGTH),
            created_at=now,
            seen_at=now,
            expires_at=now + self._session_length,
        )
        async with self._database.transaction(SYSTEM) as tx:
            directory, credentials = AccountDirectory(tx), CredentialDirectory(tx)
            found = await directory.get_to_change(proof.account_id)
            if found is None or (proof.grant is None and found[1] != proof.password_hash):
                return None
            account = enabled(found[0])
            if proof.renewed_hash is not None:
                await directory.set_password(account.id, proof.renewed_hash)
            await credentials.forget_ended_sessions(now)
            await credentials.add_session(account.id, session, sha256_of(token))
            await directory.seen(account.id, now)
        log.info(
            "session.began",
            extra={"session": str(session.id), "account": str(account.id), "address": address},
        )
        if proof.grant is None:
            return SignedIn(account, session.expires_at, token, session_token=token)
        grant = proof.grant
        return SignedIn(account, grant.expires_at, grant.access_token, grant.refresh_token, token)

    async def _refresh_elsewhere(self, shown: Credentials, refresh_token: str) -> SignedIn:
        if self._supabase is None:
            raise UnauthenticatedError("bad_refresh_token", "This refresh token is not good here.")
        grant = await self._supabase.refresh(refresh_token)
        account = enabled(await self._vouched.account_of(grant.identity))
        token = cookie_token_of(shown)
        if token is not None and await self._prolong(token, account.id) is None:
            token = None
        return SignedIn(account, grant.expires_at, grant.access_token, grant.refresh_token, token)

    async def _prolong(self, token: str, vouched_for: UUID | None) -> SignedIn | None:
        """Let a session last anew where use or Supabase's word does that; None for an ended one.

        ``vouched_for`` is the account that Supabase Auth vouched for just now: another one's
        session is left alone, and None.
        """
        now = self._clock.now()
        async with self._database.transaction(SYSTEM) as tx:
            credentials = CredentialDirectory(tx)
            holder = await credentials.session(sha256_of(token))
            if holder is None or holder.expires_at is None or holder.is_over(now):
                return None
            account = enabled(holder.account)
            if vouched_for not in (None, account.id):
                return None
            ends = holder.expires_at
            if vouched_for is not None or lasts_by_use(holder, self._ways):
                ends = now + self._session_length
            await credentials.session_used(holder.credential, now, ends)
        return SignedIn(account, ends)

    async def _sign_out_elsewhere(self, bearer: str) -> None:
        if self._supabase is None or self._supabase_tokens is None:
            return
        try:
            await self._supabase_tokens.identify(bearer)
        except UnauthenticatedError:
            return  # not Supabase's, or over: there is nothing to end
        await self._supabase.sign_out(bearer)


def _bad_login() -> UnauthenticatedError:
    return UnauthenticatedError("bad_login", "E-mail or password is wrong.")


def _plain(text: str, length: int) -> str:
    """What a client says about itself, as every database stores it."""
    return "".join(each for each in text if each.isprintable())[:length]

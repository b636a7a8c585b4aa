"""Supabase Auth and Cloudflare Access behind their ports, as far as accounts see them."""

from datetime import timedelta
from itertools import count

from clock import FakeClock

from sidecar.errors import UnauthenticatedError
from sidecar.identity import Grant, Identity


class FakeTokens:
    """A TokenCheck: the tokens it issued are good until they are withdrawn."""

    def __init__(self) -> None:
        self._good: dict[str, Identity] = {}
        self._numbers = count(1)

    def issue(self, identity: Identity) -> str:
        """A token about somebody."""
        token = f"eyJ.{identity.provider.value}.{next(self._numbers)}"
        self._good[token] = identity
        return token

    def withdraw(self, token: str) -> None:
        """It is good no more."""
        del self._good[token]

    async def identify(self, token: str) -> Identity:
        """See TokenCheck."""
        if token not in self._good:
            raise UnauthenticatedError("bad_token", "This token is not good.")
        return self._good[token]


class FakePasswords:
    """A PasswordSignIn that knows the passwords it was told."""

    def __init__(self, clock: FakeClock, tokens: FakeTokens) -> None:
        self.known: dict[str, tuple[str, Identity]] = {}
        self.asked: list[str] = []
        self.refreshed: dict[str, Identity] = {}
        self.signed_out: list[str] = []
        self.fails: Exception | None = None
        self._clock = clock
        self._tokens = tokens

    async def sign_in(self, email: str, password: str) -> Grant:
        """See PasswordSignIn."""
        self.asked.append(email)
        if self.fails is not None:
            raise self.fails
        expected, identity = self.known.get(email, (None, None))
        if identity is None or password != expected:
            raise UnauthenticatedError("bad_login", "E-mail or password is wrong.")
        return self._grant(identity)

    async def refresh(self, refresh_token: str) -> Grant:
        """See PasswordSignIn. A refresh token is good once."""
        identity = self.refreshed.pop(refresh_token, None)
        if identity is None:
            raise UnauthenticatedError("bad_refresh_token", "This refresh token is not good.")
        return self._grant(identity)

    async def sign_out(self, access_token: str) -> None:
        """See PasswordSignIn."""
        if self.fails is not None:
            raise self.fails
        self.signed_out.append(access_token)

    def _grant(self, identity: Identity) -> Grant:
        access = self._tokens.issue(identity)
        refresh = f"refresh of {access}"
        self.refreshed[refresh] = identity
        return Grant(access, refresh, self._clock.now() + timedelta(hours=1), identity)

"""One's own account, sessions and API tokens."""

import logging
from collections.abc import Sequence
from uuid import UUID

from ..clock import Clock, NewId
from ..database import Database
from ..database.pages import Page, PageQuery
from ..errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from ..principal import Principal
from .models import NO_SIGN_IN, ApiToken, Me, Quotas, Session
from .opaque_tokens import API, Secret, sha256_of
from .store import OwnAccount, SessionStore, TokenStore
from .views import TokenOrder

log = logging.getLogger(__name__)


class AccountService:
    """``ways`` is the list of ``ATELIER_AUTH``; ``quotas`` hold for who has none of one's own."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        new_id: NewId,
        secret: Secret,
        *,
        ways: Sequence[str],
        quotas: Quotas,
    ) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id
        self._secret = secret
        self._ways = tuple(ways)
        self._quotas = quotas

    async def me(self, principal: Principal) -> Me:
        """Who is asking, and how much of each quota is used."""
        async with self._database.transaction(principal, read_only=True) as tx:
            own = OwnAccount(tx)
            account = None if self._ways == NO_SIGN_IN else await own.get()
            spent = await own.spent()
        return Me(account, self._ways, self._quotas.of(account), spent)

    async def quotas_of(self, principal: Principal) -> Quotas:
        """What this account may have."""
        if self._ways == NO_SIGN_IN:
            return self._quotas
        async with self._database.transaction(principal, read_only=True) as tx:
            return self._quotas.of(await OwnAccount(tx).get())

    async def sessions(self, principal: Principal, asked: PageQuery) -> Page[Session]:
        """One's own, newest first; ended ones are not there."""
        async with self._database.transaction(principal, read_only=True) as tx:
            return await SessionStore(tx).page(asked, self._clock.now())

    async def end_session(self, principal: Principal, session_id: UUID) -> None:
        """End one of one's own, this one too. NotFoundError."""
        async with self._database.transaction(principal) as tx:
            if not await SessionStore(tx).end(session_id):
                raise NotFoundError("session")
        _log_ended(principal, session_id)

    async def end_other_sessions(self, principal: Principal) -> None:
        """End all of one's own but the one that asks."""
        async with self._database.transaction(principal) as tx:
            await SessionStore(tx).end_others(principal.credential)
        _log_ended(principal, None)

    async def tokens(self, principal: Principal, asked: PageQuery) -> Page[ApiToken]:
        """One's own, newest first; expired ones too."""
        async with self._database.transaction(principal, read_only=True) as tx:
            return await TokenStore(tx).page(asked)

    async def add_token(self, principal: Principal, order: TokenOrder) -> tuple[ApiToken, str]:
        """A new API token, and the one time that it is told.

        ForbiddenError("scope_missing" or "outlives_its_maker") when the token that asks would give
        more than it has, ("not_for_others") when an admin asks for somebody else;
        InvalidError("expires_in_the_past"); ConflictError("no_accounts_here").
        """
        self._refuse_stranger(principal, order)
        now = self._clock.now()
        ends = order.ends(now)
        if ends is not None and ends <= now:
            raise InvalidError(
                "expires_in_the_past",
                "A token ends in the future.",
                {"fields": {"expires_at": "expected a moment in the future"}},
            )
        secret = API + self._secret()
        scopes = sorted(set(order.scopes))
        token = ApiToken(self._new_id(), order.name, scopes, now, ends)
        async with self._database.transaction(principal) as tx:
            store = TokenStore(tx)
            if principal.scopes is not None and principal.credential is not None:
                _refuse_longer_life(await store.get(principal.credential), token)
            await store.add(token, sha256_of(secret))
        log.info(
            "token.added",
            extra={"token": str(token.id), "account": str(principal.id), "scopes": scopes},
        )
        return token, secret

    async def delete_token(self, principal: Principal, token_id: UUID) -> None:
        """Delete one of one's own. NotFoundError."""
        async with self._database.transaction(principal) as tx:
            if not await TokenStore(tx).delete(token_id):
                raise NotFoundError("token")
        log.info("token.deleted", extra={"token": str(token_id), "account": str(principal.id)})

    def _refuse_stranger(self, principal: Principal, order: TokenOrder) -> None:
        if self._ways == NO_SIGN_IN:
            raise ConflictError("no_accounts_here", "Nobody signs in here: no token is needed.")
        if principal.acting is not None:
            raise ForbiddenError("not_for_others", "A token is made by whom it stands for alone.")
        lacking = sorted(scope for scope in order.scopes if not principal.may(scope))
        if lacking:
            raise ForbiddenError(
                "scope_missing",
                f"This token lacks {', '.join(lacking)}, and cannot give it away.",
                {"scopes": lacking},
            )


def _refuse_longer_life(maker: ApiToken | None, made: ApiToken) -> None:
    """A token that will end cannot make one that stays."""
    if maker is None or maker.expires_at is None:
        return
    if made.expires_at is None or made.expires_at > maker.expires_at:
        raise ForbiddenError(
            "outlives_its_maker",
            "A token that is made with a token ends no later than that.",
            {"fields": {"expires_at": f"expected {maker.expires_at.isoformat()} or earlier"}},
        )


def _log_ended(principal: Principal, session_id: UUID | None) -> None:
    """Without an id: all but the one that asks."""
    session = "others" if session_id is None else str(session_id)
    log.info("session.ended", extra={"account": str(principal.id), "session": session})

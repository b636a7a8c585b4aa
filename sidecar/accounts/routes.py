"""Signing in, one's sessions and API tokens, and the accounts for admins, over HTTP."""

from aiohttp import hdrs, web
from pydantic import BaseModel

from ..database.pages import PageQuery
from ..errors import UnsupportedError
from ..http.authentication import cookie_name, credentials_of, refuse_forged_write
from ..http.bodies import path_id, read_json, read_query, reply
from ..http.client_address import client_address
from ..http.keys import principal_of
from ..http.routing import Access, Route
from .models import SignedIn
from .service import AccountService
from .sign_in import SignIn
from .user_views import UserChange, UserList, UserQuery, UserView
from .users import UserService
from .views import (
    MeView,
    NewTokenView,
    RefreshOrder,
    SessionList,
    SignedInView,
    SignInOrder,
    TokenList,
    TokenOrder,
)

SIGN_IN = web.AppKey("sign_in", SignIn)
ACCOUNTS = web.AppKey("accounts", AccountService)
USERS = web.AppKey("users", UserService)

COOKIE_SECONDS = 400 * 24 * 3600
"""The longest that browsers keep a cookie. When a session ends is decided here, not there."""
MAX_SIGN_IN_BYTES = 16 << 10
"""Strangers send these bodies, and they are read before anything is counted against anybody. The
longest password has 12 KiB, when each of its characters is escaped twice."""


async def login(request: web.Request) -> web.Response:
    """Sign in with a password."""
    _require_json(request)
    order = await read_json(request, SignInOrder, max_bytes=MAX_SIGN_IN_BYTES)
    signed_in = await request.app[SIGN_IN].sign_in(
        order.email,
        order.password.get_secret_value(),
        client_address(request),
        request.headers.get(hdrs.USER_AGENT, ""),
    )
    return _signed_in(request, signed_in)


async def refresh(request: web.Request) -> web.Response:
    """Stay signed in."""
    shown = credentials_of(request)
    refuse_forged_write(request, shown)
    token = None
    if request.body_exists:
        _require_json(request)
        token = (await read_json(request, RefreshOrder, max_bytes=MAX_SIGN_IN_BYTES)).refresh_token
    signed_in = await request.app[SIGN_IN].refresh(
        shown, None if token is None else token.get_secret_value()
    )
    return _signed_in(request, signed_in)


async def logout(request: web.Request) -> web.Response:
    """Sign out."""
    shown = credentials_of(request)
    refuse_forged_write(request, shown)
    await request.app[SIGN_IN].sign_out(shown)
    response = web.Response(status=204)
    response.del_cookie(
        cookie_name(request), path="/", secure=_by_tls(request), httponly=True, samesite="Strict"
    )
    return response


async def me(request: web.Request) -> web.Response:
    """Who is asking."""
    principal = principal_of(request)
    return reply(MeView.of(await request.app[ACCOUNTS].me(principal), principal))


async def list_sessions(request: web.Request) -> web.Response:
    """A page of one's sessions."""
    principal = principal_of(request)
    page = await request.app[ACCOUNTS].sessions(principal, read_query(request, PageQuery))
    return reply(SessionList.of(page, principal.credential))


async def end_session(request: web.Request) -> web.Response:
    """End a session."""
    await request.app[ACCOUNTS].end_session(principal_of(request), path_id(request, "session"))
    return web.Response(status=204)


async def end_other_sessions(request: web.Request) -> web.Response:
    """End all others."""
    await request.app[ACCOUNTS].end_other_sessions(principal_of(request))
    return web.Response(status=204)


async def list_tokens(request: web.Request) -> web.Response:
    """A page of one's API tokens."""
    page = await request.app[ACCOUNTS].tokens(principal_of(request), read_query(request, PageQuery))
    return reply(TokenList.of(page))


async def add_token(request: web.Request) -> web.Response:
    """Make an API token."""
    order = await read_json(request, TokenOrder)
    made = await request.app[ACCOUNTS].add_token(principal_of(request), order)
    return _secret(NewTokenView.made(*made), status=201)


async def delete_token(request: web.Request) -> web.Response:
    """Delete an API token."""
    await request.app[ACCOUNTS].delete_token(principal_of(request), path_id(request, "token"))
    return web.Response(status=204)


async def list_users(request: web.Request) -> web.Response:
    """A page of accounts."""
    page = await request.app[USERS].page(read_query(request, UserQuery))
    return reply(UserList.of(page))


async def get_user(request: web.Request) -> web.Response:
    """One account."""
    return reply(UserView.of_user(await request.app[USERS].get(path_id(request, "account"))))


async def change_user(request: web.Request) -> web.Response:
    """Change an account."""
    account_id = path_id(request, "account")
    change = await read_json(request, UserChange)
    return reply(
        UserView.of_user(await request.app[USERS].change(principal_of(request), account_id, change))
    )


def _require_json(request: web.Request) -> None:
    """A form of another site can be sent without asking first, as anything but this."""
    if request.content_type != "application/json":
        raise UnsupportedError(
            "not_json_type",
            "The body must be sent as application/json.",
            {"content_type": request.content_type},
        )


def _signed_in(request: web.Request, signed_in: SignedIn) -> web.Response:
    response = _secret(SignedInView.of(signed_in))
    if signed_in.session_token is not None:
        response.set_cookie(
            cookie_name(request),
            signed_in.session_token,
            max_age=COOKIE_SECONDS,
            path="/",
            secure=_by_tls(request),
            httponly=True,
            samesite="Strict",
        )
    return response


def _secret(answer: BaseModel, *, status: int = 200) -> web.Response:
    response = reply(answer, status=status)
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    return response


def _by_tls(request: web.Request) -> bool:
    """Whether the browser speaks TLS, if only with what stands before us.

    Who lies about it is told a cookie that one's own browser does not send.
    """
    return (
        request.secure
        or request.headers.get(hdrs.ORIGIN, "").lower().startswith("https://")
        or request.headers.get("X-Forwarded-Proto", "").lower() == "https"
    )


_LIMITED = (403, 413, 415, 429, 503)

ROUTES = (
    Route(
        "POST",
        "/auth/login",
        login,
        "Sign in with a password; sets the session cookie",
        body=SignInOrder,
        answer=SignedInView,
        errors=_LIMITED,
        access=Access.OPEN,
    ),
    Route(
        "POST",
        "/auth/refresh",
        refresh,
        "Stay signed in: without a body for a session, with Supabase's refresh token otherwise",
        body=RefreshOrder,
        answer=SignedInView,
        errors=_LIMITED,
        access=Access.OPEN,
    ),
    Route(
        "POST",
        "/auth/logout",
        logout,
        "End the session that is shown; nothing to end is no error",
        status=204,
        errors=(403, 503),
        access=Access.OPEN,
    ),
    Route(
        "GET",
        "/auth/me",
        me,
        "Who is asking, how one signs in here, and how much of each quota is used",
        answer=MeView,
    ),
    Route(
        "GET",
        "/sessions",
        list_sessions,
        "One's sessions, newest first",
        query=PageQuery,
        answer=SessionList,
    ),
    Route("DELETE", "/sessions/{id}", end_session, "End a session", status=204, errors=(404,)),
    Route(
        "DELETE",
        "/sessions",
        end_other_sessions,
        "End every session but the one that asks",
        status=204,
    ),
    Route(
        "GET",
        "/tokens",
        list_tokens,
        "One's API tokens, newest first",
        query=PageQuery,
        answer=TokenList,
    ),
    Route(
        "POST",
        "/tokens",
        add_token,
        "Make an API token; the answer is the one that tells it",
        body=TokenOrder,
        answer=NewTokenView,
        status=201,
        errors=(409,),
    ),
    Route("DELETE", "/tokens/{id}", delete_token, "Delete an API token", status=204, errors=(404,)),
    Route(
        "GET",
        "/users",
        list_users,
        "Accounts with what each uses, newest first",
        query=UserQuery,
        answer=UserList,
        access=Access.ADMIN,
    ),
    Route(
        "GET",
        "/users/{id}",
        get_user,
        "One account with what it uses",
        answer=UserView,
        errors=(404,),
        access=Access.ADMIN,
    ),
    Route(
        "PATCH",
        "/users/{id}",
        change_user,
        "Change role or quotas, disable or enable; a quota of null is the studio's",
        body=UserChange,
        answer=UserView,
        errors=(404, 409),
        access=Access.ADMIN,
    ),
)

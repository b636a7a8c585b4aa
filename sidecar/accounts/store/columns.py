"""What is read of each table, and the values that it becomes."""

from typing import Any

import sqlalchemy as sa

from ...database.tables import accounts, api_tokens, sessions
from ...principal import Role
from ..models import Account, ApiToken, Session

ACCOUNT = (
    accounts.c.id,
    accounts.c.email,
    accounts.c.role,
    accounts.c.supabase_id,
    accounts.c.supabase_email,
    accounts.c.max_runs,
    accounts.c.max_bytes,
    accounts.c.max_loras,
    accounts.c.max_lora_bytes,
    accounts.c.created_at,
    accounts.c.seen_at,
    accounts.c.disabled_at,
)
"""All but the password's hash, which a person's own transaction may not read."""

SESSION = (
    sessions.c.id,
    sessions.c.user_agent,
    sessions.c.address,
    sessions.c.created_at,
    sessions.c.seen_at,
    sessions.c.expires_at,
)
TOKEN = (
    api_tokens.c.id,
    api_tokens.c.name,
    api_tokens.c.scopes,
    api_tokens.c.created_at,
    api_tokens.c.expires_at,
    api_tokens.c.last_used_at,
)


def account_of(row: sa.Row[Any]) -> Account:
    """The account in a row that has ``ACCOUNT``'s columns, and perhaps more."""
    values = {column.name: row._mapping[column] for column in ACCOUNT}
    return Account(**values | {"role": Role(values["role"])})


def session_of(row: sa.Row[Any]) -> Session:
    """The session in a row of ``SESSION``."""
    return Session(**row._mapping)


def token_of(row: sa.Row[Any]) -> ApiToken:
    """The token in a row of ``TOKEN``."""
    return ApiToken(**row._mapping)

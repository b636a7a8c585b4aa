"""The SQL of accounts, sessions and API tokens: across accounts, and a person's own."""

from .directory import AccountDirectory
from .holders import CredentialDirectory
from .own import OwnAccount, SessionStore, TokenStore

__all__ = ["AccountDirectory", "CredentialDirectory", "OwnAccount", "SessionStore", "TokenStore"]

"""Accounts, sessions and API tokens; a child refers to its parent together with their owner."""

import sqlalchemy as sa
from alembic import op

from sidecar.database.tables import Json, UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

CHILDREN = (
    ("comfyui_workflow_versions", "workflow_id", "comfyui_workflows"),
    ("comfyui_lora_versions", "lora_id", "comfyui_lora_models"),
    ("comfyui_run_events", "run_id", "comfyui_workflow_runs"),
)


def upgrade() -> None:
    """Apply."""
    for child, column, parent in CHILDREN:
        op.create_index(f"uq_{parent}_owner", parent, ["id", "owner_id"], unique=True)
        # SQLite changes a constraint by building the table anew: nothing refers to a child
        with op.batch_alter_table(child) as table:
            table.drop_constraint(f"fk_{child}_{column}", type_="foreignkey")
            table.create_foreign_key(
                f"fk_{child}_{column}_owner_id",
                parent,
                [column, "owner_id"],
                ["id", "owner_id"],
            )
    _create_accounts()
    _create_sessions()
    _create_api_tokens()


def _create_accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text()),
        sa.Column("role", sa.String(length=10), nullable=False),
        sa.Column("password_hash", sa.Text()),
        sa.Column("supabase_id", sa.Uuid()),
        sa.Column("max_runs", sa.Integer()),
        sa.Column("max_bytes", sa.BigInteger()),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("seen_at", UtcDateTime()),
        sa.Column("disabled_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("email", name=op.f("uq_accounts_email")),
        sa.UniqueConstraint("supabase_id", name=op.f("uq_accounts_supabase_id")),
    )
    op.create_index("ix_accounts_page", "accounts", ["created_at", "id"])


def _create_sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("user_agent", sa.Text(), server_default="", nullable=False),
        sa.Column("address", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.ForeignKeyConstraint(["owner_id"], ["accounts.id"], name=op.f("fk_sessions_owner_id")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_sessions_token_sha256")),
    )
    op.create_index("ix_sessions_page", "sessions", ["owner_id", "created_at", "id"])
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])


def _create_api_tokens() -> None:
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("scopes", Json, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime()),
        sa.Column("last_used_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_tokens")),
        sa.ForeignKeyConstraint(["owner_id"], ["accounts.id"], name=op.f("fk_api_tokens_owner_id")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_api_tokens_token_sha256")),
    )
    op.create_index("ix_api_tokens_page", "api_tokens", ["owner_id", "created_at", "id"])

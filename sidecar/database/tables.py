"""Every table, once. Stores name them; nobody else does.

Each table of a user's things carries ``owner_id`` itself, with an index that starts with it, so
that a row-level policy never needs a join. A row that belongs to another refers to it together
with its owner: nobody can hang a row of theirs on somebody else's.
"""

import json
from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An aware UTC datetime. SQLite has no time zones, so it is stored there as naive UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Refuse naive datetimes; store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a time zone cannot be stored")
        value = value.astimezone(timezone.utc)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Give back an aware UTC datetime."""
        if value is None:
            return None
        moment: datetime = value
        if moment.tzinfo is None:
            return moment.replace(tzinfo=timezone.utc)
        return moment.astimezone(timezone.utc)


def dump_json(value: Any) -> str:
    """JSON as stored: readable Unicode, so that a search in it works alike on both databases."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


# none_as_null: a missing value is SQL NULL on both databases, never the JSON text "null".
# JSONB where it is searched; what people gave us goes into ExactJson, which keeps the keys' order.
Json = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

ExactJson = sa.JSON(none_as_null=True)

accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("email", sa.Text, unique=True),
    sa.Column("role", sa.String(10), nullable=False),
    sa.Column("password_hash", sa.Text),
    sa.Column("supabase_id", sa.Uuid, unique=True),
    sa.Column("supabase_email", sa.Text),
    sa.Column("max_runs", sa.Integer),
    sa.Column("max_bytes", sa.BigInteger),
    sa.Column("max_loras", sa.Integer),
    sa.Column("max_lora_bytes", sa.BigInteger),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("seen_at", UtcDateTime),
    sa.Column("disabled_at", UtcDateTime),
    sa.Index("ix_accounts_page", "created_at", "id"),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("owner_id", sa.Uuid, sa.ForeignKey("accounts.id"), nullable=False),
    sa.Column("token_sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("user_agent", sa.Text, nullable=False, server_default=""),
    sa.Column("address", sa.Text, nullable=False, server_default=""),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("seen_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
    sa.Index("ix_sessions_page", "owner_id", "created_at", "id"),
    sa.Index("ix_sessions_expires_at", "expires_at"),
)

api_tokens = sa.Table(
    "api_tokens",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("owner_id", sa.Uuid, sa.ForeignKey("accounts.id"), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("token_sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("scopes", Json, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime),
    sa.Column("last_used_at", UtcDateTime),
    sa.Index("ix_api_tokens_page", "owner_id", "created_at", "id"),
)

workflows = sa.Table(
    "comfyui_workflows",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("owner_id", sa.Uuid, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False, server_default=""),
    sa.Column("tags", Json, nullable=False),
    sa.Column("head_version", sa.Integer, nullable=False),
    sa.Column("is_template", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("deleted_at", UtcDateTime),
    sa.Index("ix_comfyui_workflows_page", "owner_id", "created_at", "id"),
    sa.Index("uq_comfyui_workflows_owner", "id", "owner_id", unique=True),
    sa.Index(
        "uq_comfyui_workflows_name",
        "owner_id",
        "name",
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    ),
)

workflow_versions = sa.Table(
    "comfyui_workflow_versions",
    metadata,
    sa.Column("workflow_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("owner_id", sa.Uuid, nullable=False),
    sa.Column("author_id", sa.Uuid, nullable=False),
    sa.Column("workflow_json", ExactJson, nullable=False),
    sa.Column("graph", ExactJson),
    sa.Column("inputs", ExactJson, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.ForeignKeyConstraint(
        ["workflow_id", "owner_id"], ["comfyui_workflows.id", "comfyui_workflows.owner_id"]
    ),
    sa.Index("ix_comfyui_workflow_versions_owner", "owner_id", "workflow_id", "version"),
)

loras = sa.Table(
    "comfyui_lora_models",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("owner_id", sa.Uuid, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("stem", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False, server_default=""),
    sa.Column("tags", Json, nullable=False),
    sa.Column("base_model", sa.Text),
    sa.Column("trigger_words", Json, nullable=False),
    sa.Column("head_version", sa.Integer, nullable=False),
    sa.Column("last_version", sa.Integer, nullable=False, server_default="0"),
    sa.Column("preview_key", sa.Text),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Index("ix_comfyui_lora_models_page", "owner_id", "created_at", "id"),
    sa.Index("uq_comfyui_lora_models_owner", "id", "owner_id", unique=True),
    sa.UniqueConstraint("owner_id", "stem", name="uq_comfyui_lora_models_stem"),
)

lora_versions = sa.Table(
    "comfyui_lora_versions",
    metadata,
    sa.Column("lora_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("owner_id", sa.Uuid, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("autov3", sa.String(12), nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("object_key", sa.Text, nullable=False),
    sa.Column("filename", sa.Text, nullable=False),
    sa.Column("source", sa.String(20), nullable=False),
    sa.Column("source_ref", sa.Text),
    sa.Column("metadata", Json, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.ForeignKeyConstraint(
        ["lora_id", "owner_id"], ["comfyui_lora_models.id", "comfyui_lora_models.owner_id"]
    ),
    sa.Index("ix_comfyui_lora_versions_owner", "owner_id", "lora_id", "version"),
    sa.Index("ix_comfyui_lora_versions_sha256", "owner_id", "sha256"),
    sa.Index("ix_comfyui_lora_versions_autov3", "owner_id", "autov3"),
    sa.Index("ix_comfyui_lora_versions_filename", "owner_id", "filename"),
)

lora_shares = sa.Table(
    "comfyui_lora_shares",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("lora_id", sa.Uuid, nullable=False),
    sa.Column("owner_id", sa.Uuid, nullable=False),
    sa.Column("grantee_id", sa.Uuid),  # null: everyone
    sa.Column("can_download", sa.Boolean, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.ForeignKeyConstraint(
        ["lora_id", "owner_id"], ["comfyui_lora_models.id", "comfyui_lora_models.owner_id"]
    ),
    sa.Index("ix_comfyui_lora_shares_owner", "owner_id", "lora_id"),
    sa.Index("ix_comfyui_lora_shares_grantee", "grantee_id", "lora_id"),
    sa.Index("uq_comfyui_lora_shares_grantee", "lora_id", "grantee_id", unique=True),
    sa.Index(
        "uq_comfyui_lora_shares_everyone",
        "lora_id",
        unique=True,
        sqlite_where=sa.text("grantee_id IS NULL"),
        postgresql_where=sa.text("grantee_id IS NULL"),
    ),
)

uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("owner_id", sa.Uuid, nullable=False),
    sa.Column("worker_id", sa.Text, nullable=False),
    sa.Column("length", sa.BigInteger, nullable=False),
    sa.Column("metadata", ExactJson, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("lora_id", sa.Uuid),
    sa.Column("lora_version", sa.Integer),
    sa.Column("error", Json),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
    sa.Index("ix_uploads_owner", "owner_id", "created_at", "id"),
    sa.Index("ix_uploads_worker", "worker_id", "state"),
    sa.Index("ix_uploads_expires_at", "expires_at"),
)

runs = sa.Table(
    "comfyui_workflow_runs",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("owner_id", sa.Uuid, nullable=False),
    sa.Column("workflow_id", sa.Uuid),
    sa.Column("workflow_version", sa.Integer),
    sa.Column("source", sa.String(10), nullable=False),
    sa.Column("status", sa.String(10), nullable=False),
    sa.Column("input_params", ExactJson, nullable=False),
    sa.Column("prompt", ExactJson, nullable=False),
    sa.Column("extra_data", ExactJson, nullable=False),
    sa.Column("loras", Json, nullable=False),
    sa.Column("worker_id", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("progress", Json),
    sa.Column("history", Json),
    sa.Column("outputs", Json, nullable=False),
    sa.Column("error", Json),
    sa.Column("idempotency_key", sa.Text),
    sa.Column("request_sha256", sa.String(64)),
    sa.Column("gpu_seconds", sa.Float),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("started_at", UtcDateTime),
    sa.Column("finished_at", UtcDateTime),
    sa.Index("ix_comfyui_workflow_runs_page", "owner_id", "created_at", "id"),
    sa.Index("uq_comfyui_workflow_runs_owner", "id", "owner_id", unique=True),
    sa.Index("ix_comfyui_workflow_runs_workflow", "owner_id", "workflow_id", "created_at", "id"),
    sa.Index("ix_comfyui_workflow_runs_owner_status", "owner_id", "status", "created_at", "id"),
    sa.Index("ix_comfyui_workflow_runs_status", "status", "created_at", "id"),
    sa.Index("ix_comfyui_workflow_runs_served", "owner_id", "started_at"),
    sa.UniqueConstraint(
        "owner_id", "idempotency_key", name="uq_comfyui_workflow_runs_idempotency_key"
    ),
)

run_events = sa.Table(
    "comfyui_run_events",
    metadata,
    sa.Column("run_id", sa.Uuid, primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("owner_id", sa.Uuid, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("type", sa.String(20), nullable=False),
    sa.Column("data", Json, nullable=False),
    sa.ForeignKeyConstraint(
        ["run_id", "owner_id"], ["comfyui_workflow_runs.id", "comfyui_workflow_runs.owner_id"]
    ),
    sa.Index("ix_comfyui_run_events_owner", "owner_id", "run_id", "seq"),
    sa.Index("ix_comfyui_run_events_at", "at"),
)

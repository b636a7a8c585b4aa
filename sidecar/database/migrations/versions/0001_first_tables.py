"""Workflows and their versions, LoRAs and theirs, runs and their events."""

import sqlalchemy as sa
from alembic import op

from sidecar.database.tables import ExactJson, Json, UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "comfyui_lora_models",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("stem", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("tags", Json, nullable=False),
        sa.Column("base_model", sa.Text(), nullable=True),
        sa.Column("trigger_words", Json, nullable=False),
        sa.Column("head_version", sa.Integer(), nullable=False),
        sa.Column("preview_key", sa.Text(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comfyui_lora_models")),
        sa.UniqueConstraint("owner_id", "stem", name="uq_comfyui_lora_models_stem"),
    )
    op.create_index(
        "ix_comfyui_lora_models_page",
        "comfyui_lora_models",
        ["owner_id", "created_at", "id"],
        unique=False,
    )
    op.create_table(
        "comfyui_workflow_runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("workflow_id", sa.Uuid(), nullable=True),
        sa.Column("workflow_version", sa.Integer(), nullable=True),
        sa.Column("source", sa.String(length=10), nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("input_params", ExactJson, nullable=False),
        sa.Column("prompt", ExactJson, nullable=False),
        sa.Column("extra_data", ExactJson, nullable=False),
        sa.Column("loras", Json, nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("progress", Json, nullable=True),
        sa.Column("history", Json, nullable=True),
        sa.Column("outputs", Json, nullable=False),
        sa.Column("error", Json, nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("request_sha256", sa.String(length=64), nullable=True),
        sa.Column("gpu_seconds", sa.Float(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comfyui_workflow_runs")),
        sa.UniqueConstraint(
            "owner_id", "idempotency_key", name="uq_comfyui_workflow_runs_idempotency_key"
        ),
    )
    op.create_index(
        "ix_comfyui_workflow_runs_page",
        "comfyui_workflow_runs",
        ["owner_id", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        "ix_comfyui_workflow_runs_served",
        "comfyui_workflow_runs",
        ["owner_id", "started_at"],
        unique=False,
    )
    op.create_index(
        "ix_comfyui_workflow_runs_status",
        "comfyui_workflow_runs",
        ["status", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        "ix_comfyui_workflow_runs_workflow",
        "comfyui_workflow_runs",
        ["owner_id", "workflow_id", "created_at"],
        unique=False,
    )
    op.create_table(
        "comfyui_workflows",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("tags", Json, nullable=False),
        sa.Column("head_version", sa.Integer(), nullable=False),
        sa.Column("is_template", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("deleted_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comfyui_workflows")),
    )
    op.create_index(
        "ix_comfyui_workflows_page",
        "comfyui_workflows",
        ["owner_id", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        "uq_comfyui_workflows_name",
        "comfyui_workflows",
        ["owner_id", "name"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "comfyui_lora_versions",
        sa.Column("lora_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("autov3", sa.String(length=12), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("source", sa.String(length=20), nullable=False),
        sa.Column("source_ref", sa.Text(), nullable=True),
        sa.Column("metadata", Json, nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["lora_id"], ["comfyui_lora_models.id"], name=op.f("fk_comfyui_lora_versions_lora_id")
        ),
        sa.PrimaryKeyConstraint("lora_id", "version", name=op.f("pk_comfyui_lora_versions")),
    )
    op.create_index(
        "ix_comfyui_lora_versions_owner",
        "comfyui_lora_versions",
        ["owner_id", "lora_id", "version"],
        unique=False,
    )
    op.create_index(
        "ix_comfyui_lora_versions_sha256",
        "comfyui_lora_versions",
        ["owner_id", "sha256"],
        unique=False,
    )
    op.create_table(
        "comfyui_run_events",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("type", sa.String(length=20), nullable=False),
        sa.Column("data", Json, nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["comfyui_workflow_runs.id"], name=op.f("fk_comfyui_run_events_run_id")
        ),
        sa.PrimaryKeyConstraint("run_id", "seq", name=op.f("pk_comfyui_run_events")),
    )
    op.create_index("ix_comfyui_run_events_at", "comfyui_run_events", ["at"], unique=False)
    op.create_index(
        "ix_comfyui_run_events_owner",
        "comfyui_run_events",
        ["owner_id", "run_id", "seq"],
        unique=False,
    )
    op.create_table(
        "comfyui_workflow_versions",
        sa.Column("workflow_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("workflow_json", ExactJson, nullable=False),
        sa.Column("graph", ExactJson, nullable=True),
        sa.Column("inputs", ExactJson, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["workflow_id"],
            ["comfyui_workflows.id"],
            name=op.f("fk_comfyui_workflow_versions_workflow_id"),
        ),
        sa.PrimaryKeyConstraint(
            "workflow_id", "version", name=op.f("pk_comfyui_workflow_versions")
        ),
    )
    op.create_index(
        "ix_comfyui_workflow_versions_owner",
        "comfyui_workflow_versions",
        ["owner_id", "workflow_id", "version"],
        unique=False,
    )

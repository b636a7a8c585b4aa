"""A million runs: what an account has of one state, or of one workflow, is found by an index."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

RUNS = "comfyui_workflow_runs"


def upgrade() -> None:
    """Apply."""
    op.create_index(
        "ix_comfyui_workflow_runs_owner_status", RUNS, ["owner_id", "status", "created_at", "id"]
    )
    op.drop_index("ix_comfyui_workflow_runs_workflow", table_name=RUNS)
    op.create_index(
        "ix_comfyui_workflow_runs_workflow", RUNS, ["owner_id", "workflow_id", "created_at", "id"]
    )

"""Postgres: row-level security on every table, and grants by name.

A member of the studio sees rows of its own and changes what its stores change, column by column: no
row can be given to another owner, or hung on another parent. The narrow role of the few jobs across
accounts reads no prompt, no workflow and no password but those of signing in.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MEMBER = "authenticated"
SYSTEM = "atelier_system"

OWNED: dict[str, tuple[str, ...]] = {
    "comfyui_workflows": (
        "select",
        "insert",
        "update (name, description, tags, head_version, is_template, updated_at, deleted_at)",
    ),
    "comfyui_workflow_versions": ("select", "insert"),
    "comfyui_lora_models": (
        "select",
        "insert",
        "update (name, stem, description, tags, base_model, trigger_words, head_version,"
        " preview_key, updated_at)",
        "delete",
    ),
    "comfyui_lora_versions": ("select", "insert", "update (state)", "delete"),
    "comfyui_workflow_runs": (
        "select",
        "insert",
        "update (status, worker_id, attempts, progress, history, outputs, error, gpu_seconds,"
        " started_at, finished_at)",
        "delete",
    ),
    "comfyui_run_events": ("select", "insert", "delete"),
    "sessions": ("select", "insert", "update (seen_at, expires_at)", "delete"),
    "api_tokens": ("select", "insert", "update (last_used_at)", "delete"),
}
"""What a member may do with its own rows of each table."""

ACCOUNT_COLUMNS = (
    "id, email, role, supabase_id, max_runs, max_bytes, created_at, seen_at, disabled_at"
)

ACROSS: dict[str, tuple[str, ...]] = {
    "accounts": ("select", "insert", "update"),
    "sessions": ("select", "insert", "update (seen_at, expires_at)", "delete"),
    "api_tokens": ("select", "update (last_used_at)", "delete"),
    "comfyui_workflows": ("select (id, owner_id, deleted_at)",),
    "comfyui_lora_models": ("select (id, owner_id, head_version)",),
    "comfyui_lora_versions": ("select (lora_id, owner_id, bytes, state)",),
    "comfyui_workflow_runs": (
        "select (id, owner_id, source, status, worker_id, attempts, created_at, started_at,"
        " finished_at)",
        "update (status, worker_id, attempts, started_at)",
    ),
    "comfyui_run_events": ("select (run_id, seq, owner_id, at)", "insert", "delete"),
}
"""What the jobs across accounts may do with everybody's rows."""

MINE = "owner_id = (select auth.uid())"
# a run names a workflow that its owner can see, or none
MY_RUN = f"""{MINE} and (workflow_id is null or exists (
    select from comfyui_workflows w where w.id = workflow_id))"""


def upgrade() -> None:
    """Apply; SQLite has no such thing."""
    if op.get_context().dialect.name != "postgresql":
        return
    for table, may in OWNED.items():
        _close(table)
        check = MY_RUN if table == "comfyui_workflow_runs" else MINE
        for privilege in may:
            _allow(table, MEMBER, privilege, MINE, check)
    _close("accounts")
    _allow("accounts", MEMBER, f"select ({ACCOUNT_COLUMNS})", "id = (select auth.uid())", "false")
    for table, may in ACROSS.items():
        for privilege in may:
            _allow(table, SYSTEM, privilege, "true", "true")
    op.execute(f"grant select on alembic_version to {SYSTEM}")


def _close(table: str) -> None:
    op.execute(f"alter table {table} enable row level security")
    op.execute(f"alter table {table} force row level security")
    op.execute(f"revoke all on {table} from public")


def _allow(table: str, role: str, privilege: str, sees: str, leaves: str) -> None:
    """Grant it, with the policy: which rows it ``sees``, and what rows it may leave behind."""
    command = privilege.split(" ")[0]
    using = "" if command == "insert" else f" using ({sees})"
    check = f" with check ({leaves})" if command in ("insert", "update") else ""
    who = "owner" if role == MEMBER else "system"
    op.execute(
        f"create policy {table}_{who}_{command} on {table} for {command} to {role}{using}{check}"
    )
    op.execute(f"grant {privilege} on {table} to {role}")

"""The LoRA library: shares, resumable uploads, quotas; files named apart from keys."""

import sqlalchemy as sa
from alembic import op

from sidecar.database.tables import Json, UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

MEMBER = "authenticated"
SYSTEM = "atelier_system"

MINE = "owner_id = (select auth.uid())"
GRANTED = "(s.grantee_id is null or s.grantee_id = (select auth.uid()))"
SHARED = (
    "exists (select from comfyui_lora_shares s where s.lora_id = {table}.{id} and " + GRANTED + ")"
)


def upgrade() -> None:
    """Apply.

    Until now a version was written before its bytes were stored. Those whose bytes never came are
    shown to nobody and are dropped here; from now on a row is written when its bytes are there.
    """
    on_postgres = op.get_context().dialect.name == "postgresql"
    _columns()
    _shares()
    _uploads()
    tables = ("comfyui_lora_models", "comfyui_lora_versions")
    if on_postgres:  # it hides every row from the owner of the tables too, who migrates
        for table in tables:
            op.execute(f"alter table {table} no force row level security")
    op.execute("delete from comfyui_lora_versions where state = 'pending'")
    op.execute("delete from comfyui_lora_models where head_version = 0")
    # what precedes it is user-<uuid>/loras/
    op.execute("update comfyui_lora_versions set filename = substr(object_key, 49)")
    # the number of a version that was deleted is not given to another
    op.execute(
        "update comfyui_lora_models set last_version = (select coalesce(max(v.version), 0)"
        " from comfyui_lora_versions v where v.lora_id = comfyui_lora_models.id)"
    )
    if on_postgres:
        for table in tables:
            op.execute(f"alter table {table} force row level security")
        _secure()


def _columns() -> None:
    op.add_column("accounts", sa.Column("max_loras", sa.Integer()))
    op.add_column("accounts", sa.Column("max_lora_bytes", sa.BigInteger()))
    op.add_column(
        "comfyui_lora_models",
        sa.Column("last_version", sa.Integer(), nullable=False, server_default="0"),
    )
    op.add_column(
        "comfyui_lora_versions", sa.Column("filename", sa.Text(), nullable=False, server_default="")
    )
    for name in ("autov3", "filename"):
        op.create_index(
            f"ix_comfyui_lora_versions_{name}", "comfyui_lora_versions", ["owner_id", name]
        )


def _shares() -> None:
    op.create_table(
        "comfyui_lora_shares",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("lora_id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("grantee_id", sa.Uuid()),
        sa.Column("can_download", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["lora_id", "owner_id"], ["comfyui_lora_models.id", "comfyui_lora_models.owner_id"]
        ),
    )
    for name, columns, unique in (
        ("ix_comfyui_lora_shares_owner", ["owner_id", "lora_id"], False),
        ("ix_comfyui_lora_shares_grantee", ["grantee_id", "lora_id"], False),
        ("uq_comfyui_lora_shares_grantee", ["lora_id", "grantee_id"], True),
    ):
        op.create_index(name, "comfyui_lora_shares", columns, unique=unique)
    everyone = sa.text("grantee_id IS NULL")
    op.create_index(
        "uq_comfyui_lora_shares_everyone",
        "comfyui_lora_shares",
        ["lora_id"],
        unique=True,
        sqlite_where=everyone,
        postgresql_where=everyone,
    )


def _uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("lora_id", sa.Uuid()),
        sa.Column("lora_version", sa.Integer()),
        sa.Column("error", Json),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
    )
    for name, columns in (
        ("ix_uploads_owner", ["owner_id", "created_at", "id"]),
        ("ix_uploads_worker", ["worker_id", "state"]),
        ("ix_uploads_expires_at", ["expires_at"]),
    ):
        op.create_index(name, "uploads", columns)


def _secure() -> None:
    own = {
        "comfyui_lora_shares": ("select", "insert", "update (can_download)", "delete"),
        "uploads": (
            "select",
            "insert",
            "update (state, lora_id, lora_version, error, expires_at)",
            "delete",
        ),
    }
    for table, may in own.items():
        op.execute(f"alter table {table} enable row level security")
        op.execute(f"alter table {table} force row level security")
        op.execute(f"revoke all on {table} from public")
        for privilege in may:
            _allow(table, privilege, "owner", MEMBER, MINE)
    # whom a LoRA is shared with sees the share, the LoRA and its versions
    _select("comfyui_lora_shares", GRANTED.replace("s.", ""))
    _select("comfyui_lora_models", SHARED.format(table="comfyui_lora_models", id="id"))
    _select("comfyui_lora_versions", SHARED.format(table="comfyui_lora_versions", id="lora_id"))
    op.execute(f"grant select (max_loras, max_lora_bytes) on accounts to {MEMBER}")
    op.execute(f"grant update (last_version) on comfyui_lora_models to {MEMBER}")
    op.execute(f"grant update (object_key, filename) on comfyui_lora_versions to {MEMBER}")
    # which files on a pair's disk unfinished runs hold on to, whoever's they are
    op.execute(f"grant select (loras) on comfyui_workflow_runs to {SYSTEM}")
    columns = "id, owner_id, worker_id, state, length, expires_at"
    _allow("uploads", f"select ({columns})", "system", SYSTEM, "true")


def _allow(table: str, privilege: str, who: str, role: str, rows: str) -> None:
    command = privilege.split(" ")[0]
    using = "" if command == "insert" else f" using ({rows})"
    check = f" with check ({rows})" if command in ("insert", "update") else ""
    op.execute(
        f"create policy {table}_{who}_{command} on {table} for {command} to {role}{using}{check}"
    )
    op.execute(f"grant {privilege} on {table} to {role}")


def _select(table: str, rows: str) -> None:
    op.execute(
        f"create policy {table}_shared_select on {table} for select to {MEMBER} using ({rows})"
    )

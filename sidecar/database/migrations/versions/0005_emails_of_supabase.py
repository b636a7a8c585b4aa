"""What Supabase says of somebody's e-mail, apart from what accounts are found by."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

MEMBER = "authenticated"


def upgrade() -> None:
    """Apply.

    Until now first sight wrote Supabase's e-mail, which nobody may have proved, where accounts are
    found by it. Such an account has no password; nor has one that an admin added with its id, which
    cannot be told from it. The first account was added by an admin, always.
    """
    on_postgres = op.get_context().dialect.name == "postgresql"
    op.add_column("accounts", sa.Column("supabase_email", sa.Text()))
    if on_postgres:
        op.execute(f"grant select (supabase_email) on accounts to {MEMBER}")
        # it hides every row from the owner of the table too, who migrates
        op.execute("alter table accounts no force row level security")
    op.execute(
        "update accounts set supabase_email = email, email = null where supabase_id is not null"
        " and email is not null and password_hash is null"
        # SQLite has ids without dashes
        " and replace(cast(id as text), '-', '') <> '00000000000040008000000000000001'"
    )
    if on_postgres:
        op.execute("alter table accounts force row level security")

"""Alembic's environment: it runs on the connection that ``migrate`` hands over."""

from alembic import context

from sidecar.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,
)
context.run_migrations()

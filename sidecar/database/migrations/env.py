"""Alembic's environment: on the connection that ``migrate`` hands over, or as SQL text."""

from alembic import context

from sidecar.database.postgres import SCHEMA
from sidecar.database.tables import metadata

connection = context.config.attributes.get("connection")

if connection is None:
    context.configure(
        dialect_name="postgresql",
        target_metadata=metadata,
        version_table_schema=SCHEMA,
        literal_binds=True,
    )
    with context.begin_transaction():
        context.run_migrations()
else:
    on_postgres = connection.dialect.name == "postgresql"
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transaction_per_migration=False,
        version_table_schema=SCHEMA if on_postgres else None,
    )
    context.run_migrations()

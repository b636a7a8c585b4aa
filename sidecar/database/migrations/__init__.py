"""Brings a database to today's schema: Alembic, one linear history for SQLite and Postgres."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config


def migrate(engine: sa.Engine) -> None:
    """Apply what is missing. A killed migration is repeated: each runs in one transaction."""
    config = Config()
    # configparser reads % as an interpolation
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    with engine.begin() as connection:
        if connection.dialect.name == "sqlite":  # its driver opens no transaction for DDL
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

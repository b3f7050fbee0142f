"""What Alembic runs: the migrations that it was asked for, in one transaction and under a lock."""

import sqlalchemy as sa
from alembic import context

from kernel.db import Database

LOCK = 7_067_830
"""Any number that nobody else locks; the schema's hash is added."""

database: Database = context.config.attributes["database"]
with database.engine.connect() as connection:
    if database.sqlite:
        connection.execute(sa.text("BEGIN IMMEDIATE"))
    else:
        key = LOCK + sum(database.schema.encode())
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
        connection.execute(sa.schema.CreateSchema(database.schema, if_not_exists=True))
    context.configure(
        connection=connection,
        target_metadata=context.config.attributes["metadata"],
        render_as_batch=database.sqlite,
        compare_type=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()

"""Alembic's environment: it runs on the connection, and in the transaction, it is given."""

from alembic import context

from broker.edge.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
)
context.run_migrations()

"""Alembic's entry: runs on the connection, and in the transaction, that `store.ledger.schema` hands over."""

from alembic import context

from store.ledger.schema import VERSION_TABLE
from store.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,  # SQLite alters a table by copying it
)
with context.begin_transaction():
    context.run_migrations()

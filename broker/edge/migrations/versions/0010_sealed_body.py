"""Bodies get a table of their own, on PostgreSQL in partitions by month.

Revision 0010. What is there already is moved, on PostgreSQL into the rest, where it stays until
its time is over.
"""

from functools import partial

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table, and move what can still be read."""
    op.create_table(
        "sealed_body",
        sa.Column("message", sa.String(length=36), nullable=False),
        sa.Column("recipient", sa.String(length=64), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["message"], ["message.id"]),
        sa.PrimaryKeyConstraint("message", "recipient"),
        postgresql_partition_by="RANGE (message)",
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE TABLE sealed_body_rest PARTITION OF sealed_body DEFAULT")
    op.execute(
        "INSERT INTO sealed_body (message, recipient, sealed)"
        " SELECT id, '', body FROM message WHERE wrapped_key IS NOT NULL"
        " UNION ALL SELECT delivery.message, recipient, delivery.body FROM delivery"
        " JOIN message ON message.id = delivery.message"
        " WHERE wrapped_key IS NOT NULL AND delivery.body IS NOT NULL"
    )
    op.add_column(
        "delivery",
        sa.Column("reduced", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.execute("UPDATE delivery SET reduced = (body IS NOT NULL)")
    op.drop_column("delivery", "body")
    op.drop_column("message", "body")


def downgrade() -> None:
    """Put the bodies back where they were; what was erased is empty."""
    for table in ("message", "delivery"):
        op.add_column(table, sa.Column("body", sa.LargeBinary(), nullable=True))
    empty = sa.literal(b"", sa.LargeBinary())
    sealed, message, delivery = _tables()
    sent = sa.select(sealed.c.sealed).where(
        sealed.c.message == message.c.id, sealed.c.recipient == ""
    )
    shown = sa.select(sealed.c.sealed).where(
        sealed.c.message == delivery.c.message, sealed.c.recipient == delivery.c.recipient
    )
    op.execute(message.update().values(body=sa.func.coalesce(sent.scalar_subquery(), empty)))
    op.execute(
        delivery.update()
        .where(delivery.c.reduced)
        .values(body=sa.func.coalesce(shown.scalar_subquery(), empty))
    )
    op.drop_column("delivery", "reduced")
    op.drop_table("sealed_body")


def _tables() -> tuple[sa.TableClause, sa.TableClause, sa.TableClause]:
    """Return as much of the tables as is needed to take this back."""
    body = partial(sa.column, "body", sa.LargeBinary())
    return (
        sa.table("sealed_body", *map(sa.column, ("message", "recipient", "sealed"))),
        sa.table("message", sa.column("id"), body()),
        sa.table("delivery", *map(sa.column, ("message", "recipient", "reduced")), body()),
    )

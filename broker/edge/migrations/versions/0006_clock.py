"""Clocks that run on messages, and how far they have read in the ledger.

Revision 0006.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the two tables; clocks start for what is accepted from now on."""
    op.create_table(
        "clock",
        sa.Column("message", sa.String(length=36), nullable=False),
        sa.Column("recipient", sa.String(length=64), nullable=False),
        sa.Column("clock", sa.String(length=64), nullable=False),
        sa.Column("sender", sa.String(length=64), nullable=False),
        sa.Column("message_id", sa.String(length=36), nullable=False),
        sa.Column("protocol", sa.String(length=80), nullable=False),
        sa.Column("clause", sa.String(length=80), nullable=False),
        sa.Column("stops", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("due_from", sa.BigInteger(), nullable=False),
        sa.Column("overdue_from", sa.BigInteger(), nullable=False),
        sa.Column("escalated_from", sa.BigInteger(), nullable=True),
        sa.Column("next_at", sa.BigInteger(), nullable=True),
        sa.Column("stopped_at", sa.BigInteger(), nullable=True),
        sa.Column("stopped_by", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["message"], ["message.id"]),
        sa.PrimaryKeyConstraint("message", "recipient", "clock"),
        sqlite_with_rowid=False,
    )
    op.create_index("clock_answered", "clock", ["message_id", "sender"], unique=False)
    op.create_index(
        "clock_next",
        "clock",
        ["next_at"],
        unique=False,
        sqlite_where=sa.text("next_at IS NOT NULL"),
        postgresql_where=sa.text("next_at IS NOT NULL"),
    )
    op.create_table(
        "clock_reader",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute("INSERT INTO clock_reader SELECT 1, coalesce(max(seq), -1) FROM ledger")


def downgrade() -> None:
    """Drop both: the events stay in the ledger."""
    op.drop_table("clock_reader")
    op.drop_table("clock")

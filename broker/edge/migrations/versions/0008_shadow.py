"""Drafts beside what is in force, and what they would have decided.

Revision 0008.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the two tables."""
    op.create_table(
        "shadow",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("protocol", sa.String(length=80), nullable=False),
        sa.Column("draft", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("ended", sa.String(length=16), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "shadow_finding",
        sa.Column("shadow", sa.String(length=36), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("found", sa.String(length=24), nullable=False),
        sa.Column("sender", sa.String(length=64), nullable=False),
        sa.Column("recipient", sa.String(length=64), nullable=False),
        sa.Column("message_type", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=32), nullable=False),
        sa.Column("live_reason", sa.String(length=64), nullable=False),
        sa.Column("live_protocol", sa.String(length=80), nullable=False),
        sa.Column("live_clause", sa.String(length=80), nullable=False),
        sa.Column("draft_reason", sa.String(length=64), nullable=False),
        sa.Column("draft_protocol", sa.String(length=80), nullable=False),
        sa.Column("draft_clause", sa.String(length=80), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("first_message", sa.String(length=36), nullable=True),
        sa.Column("last_message", sa.String(length=36), nullable=True),
        sa.ForeignKeyConstraint(["shadow"], ["shadow.id"]),
        sa.PrimaryKeyConstraint("shadow", "day", "key"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop both: what was compared is gone, what was decided stays."""
    op.drop_table("shadow_finding")
    op.drop_table("shadow")

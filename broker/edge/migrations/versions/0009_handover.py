"""Answers to offers: who has taken what is then sent.

Revision 0009.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; what was taken before is answered anew."""
    op.create_table(
        "handover",
        sa.Column("message", sa.String(length=36), nullable=False),
        sa.Column("recipient", sa.String(length=64), nullable=False),
        sa.Column("sender", sa.String(length=64), nullable=False),
        sa.Column("subject_ref", sa.String(length=64), nullable=False),
        sa.Column("follows", sa.String(length=64), nullable=False),
        sa.Column("number", sa.String(length=64), nullable=False),
        sa.Column("taken", sa.Boolean(), nullable=False),
        sa.Column("shield", sa.Boolean(), nullable=False),
        sa.Column("ledger_seq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["message"], ["message.id"]),
        sa.PrimaryKeyConstraint("message", "recipient"),
        sqlite_with_rowid=False,
    )
    op.create_index("handover_number", "handover", ["number", "recipient"], unique=False)


def downgrade() -> None:
    """Drop it: what was answered stays in the ledger."""
    op.drop_table("handover")

"""Decisions to share without consent, what passed by them, and their reviews.

Revision 0005.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the three tables."""
    op.create_table(
        "disclosure_override",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("subject_ref", sa.String(length=64), nullable=False),
        sa.Column("agency", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("gateway", sa.String(length=32), nullable=False),
        sa.Column("purposes", sa.Text(), nullable=False),
        sa.Column("message_types", sa.Text(), nullable=False),
        sa.Column("recipients", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.String(length=32), nullable=False),
        sa.Column("approved_by", sa.String(length=32), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("review_by", sa.BigInteger(), nullable=False),
        sa.Column("ledger_seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "override_agency", "disclosure_override", ["agency", "recorded_at"], unique=False
    )
    op.create_table(
        "override_use",
        sa.Column("override", sa.String(length=36), nullable=False),
        sa.Column("message", sa.String(length=36), nullable=False),
        sa.Column("recipient", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["message"], ["message.id"]),
        sa.ForeignKeyConstraint(["override"], ["disclosure_override.id"]),
        sa.PrimaryKeyConstraint("override", "message", "recipient"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "override_review",
        sa.Column("override", sa.String(length=36), nullable=False),
        sa.Column("outcome", sa.String(length=32), nullable=False),
        sa.Column("reviewer", sa.String(length=32), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("ledger_seq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["override"], ["disclosure_override.id"]),
        sa.PrimaryKeyConstraint("override"),
    )


def downgrade() -> None:
    """Drop all three, with all that they hold."""
    op.drop_table("override_review")
    op.drop_table("override_use")
    op.drop_table("disclosure_override")

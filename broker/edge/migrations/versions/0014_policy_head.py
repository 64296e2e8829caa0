"""Where in the ledger it stands how far the policy log had come.

Revision 0014. Nothing is known of the time before: the first start remembers what it finds.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "policy_head",
        sa.Column("ledger_seq", number, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("ledger_seq"),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("policy_head")

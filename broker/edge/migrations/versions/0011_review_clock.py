"""The message that says a decision to share without consent: the clock of its review runs on it.

Revision 0011.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of what was decided before, the review is listed and not told of."""
    op.add_column("disclosure_override", sa.Column("message", sa.String(length=36), nullable=True))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("disclosure_override", "message")

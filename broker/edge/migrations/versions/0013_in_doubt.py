"""After how many attempts a recipient may have a message, though nobody says so.

Revision 0013. Which attempts had no answer was not kept before: all of them are in doubt, of
what is not delivered.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, and fill it for what may still be asked about."""
    op.add_column(
        "delivery",
        sa.Column("in_doubt", sa.Integer(), server_default=sa.text("0"), nullable=False),
    )
    op.execute(
        "UPDATE delivery SET in_doubt = attempts"
        " WHERE state IN ('pending', 'available', 'undeliverable')"
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_column("delivery", "in_doubt")

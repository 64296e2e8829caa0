"""What a decision was made from, kept beside it, so that it can be made again.

Revision 0004. Decisions from before have none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("decision", sa.Column("facts", sa.Text(), nullable=True))


def downgrade() -> None:
    """Take it away, with all that it holds."""
    op.drop_column("decision", "facts")

"""An index of the messages whose payload is still there, for their erasure in time.

Revision 0007.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_READABLE = "wrapped_key IS NOT NULL"


def upgrade() -> None:
    """Make the index."""
    op.create_index(
        "message_readable",
        "message",
        ["received_at"],
        unique=False,
        sqlite_where=sa.text(_READABLE),
        postgresql_where=sa.text(_READABLE),
    )


def downgrade() -> None:
    """Drop the index."""
    op.drop_index("message_readable", table_name="message")

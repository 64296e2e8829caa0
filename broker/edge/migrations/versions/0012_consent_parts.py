"""Which categories of data a consent is about, what helped to understand it, who took it back.

Revision 0012.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_COLUMNS: dict[str, TypeEngine[Any]] = {
    "categories": sa.Text(),
    "support": sa.String(length=64),
    "withdrawn_by": sa.String(length=16),
    "withdrawn_at": sa.BigInteger(),
}


def upgrade() -> None:
    """Add the columns; what was recorded before is about all categories."""
    for name, kind in _COLUMNS.items():
        op.add_column("consent", sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    """Drop them, unless a consent is about some categories only: it would become one about all."""
    narrowed = sa.text("SELECT count(*) FROM consent WHERE categories IS NOT NULL")
    if op.get_bind().execute(narrowed).scalar_one():
        msg = "a consent is about some categories of data only"
        raise RuntimeError(msg)
    for name in reversed(_COLUMNS):
        op.drop_column("consent", name)

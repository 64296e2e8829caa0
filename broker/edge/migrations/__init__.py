"""Bring a database to the schema that this program was written for."""

from contextlib import AbstractContextManager
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from broker.core.errors import Permanent
from broker.core.reasons import Reason

HEAD = "0014"  # the newest file in versions/; a test compares
_FOLDER = Path(__file__).parent
_VERSION_TABLE = "alembic_version"


def migrate(alone: AbstractContextManager[Connection]) -> None:
    """Make or migrate the schema, in one transaction; a current one costs one query.

    ``alone`` is that transaction: no other process migrates meanwhile.

    Raises:
        Permanent: the database is newer than this program, or holds something else.
    """
    with alone as conn:
        found = _version(conn)
        if found == HEAD:
            return
        _upgrade(conn, found)


def _version(conn: Connection) -> str | None:
    names = inspect(conn).get_table_names()
    if _VERSION_TABLE in names:
        version = conn.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar()  # noqa: S608 - a constant
        return None if version is None else str(version)
    if names:
        raise Permanent(Reason.INTERNAL, "the database holds tables that are not the broker's")
    return None


def _upgrade(conn: Connection, found: str | None) -> None:
    # Alembic takes as long to import as the rest of the store: only when there is work.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise Permanent(
            Reason.INTERNAL, f"the database has schema {found}, newer than this program's {HEAD}"
        )
    config.attributes["connection"] = conn
    command.upgrade(config, HEAD)

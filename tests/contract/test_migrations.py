"""The schema is made and kept by migrations alone, wherever the package lies."""

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect

import broker
from broker.core.errors import Permanent
from broker.edge import migrations
from broker.edge.database import writing_engine
from broker.edge.migrations import HEAD, migrate
from broker.edge.tables import metadata
from tests.contract import stores

PACKAGE = Path(broker.__file__).parent


def config(conn: Connection | None = None) -> Config:
    made = Config()
    made.set_main_option("script_location", str(Path(migrations.__file__).parent))
    made.attributes["connection"] = conn
    return made


def test_the_newest_version_is_the_one_the_program_asks_for() -> None:
    assert ScriptDirectory.from_config(config()).get_heads() == [HEAD]


def test_migrating_makes_exactly_the_schema_that_the_tables_describe(tmp_path: Path) -> None:
    engine = writing_engine(stores.sqlite_url(tmp_path), busy_timeout_s=1)

    migrate(engine)

    with engine.connect() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []
        migrated = definitions(conn)
    engine.dispose()
    plain = create_engine("sqlite://")
    with plain.connect() as conn:
        metadata.create_all(conn)
        assert definitions(conn) == migrated
    plain.dispose()


def definitions(conn: Connection) -> dict[str, str]:
    """Return each table's and index's SQL: what `compare_metadata` compares, and all else."""
    rows = conn.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name != 'alembic_version'"
    )
    return {name: " ".join(sorted(sql.replace(",", " ").split())) for name, sql in rows}


def test_migrating_twice_changes_nothing(tmp_path: Path) -> None:
    engine = writing_engine(stores.sqlite_url(tmp_path), busy_timeout_s=1)
    migrate(engine)
    with engine.connect() as conn:
        before = definitions(conn)

    migrate(engine)

    with engine.connect() as conn:
        assert definitions(conn) == before
    engine.dispose()


def test_each_version_can_be_taken_back_and_applied_again(tmp_path: Path) -> None:
    engine = writing_engine(stores.sqlite_url(tmp_path), busy_timeout_s=1)
    migrate(engine)

    with engine.begin() as conn:
        command.downgrade(config(conn), "base")
        left = inspect(conn).get_table_names()
    migrate(engine)

    assert left == ["alembic_version"]
    with engine.connect() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []
    engine.dispose()


def test_a_database_newer_than_the_program_is_left_alone(tmp_path: Path) -> None:
    engine = writing_engine(stores.sqlite_url(tmp_path), busy_timeout_s=1)
    migrate(engine)
    with engine.begin() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(Permanent, match="newer"):
        migrate(engine)

    engine.dispose()


def test_a_database_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    engine = writing_engine(stores.sqlite_url(tmp_path), busy_timeout_s=1)
    with engine.begin() as conn:
        conn.exec_driver_sql("CREATE TABLE recipes (name TEXT)")

    with pytest.raises(Permanent, match="not the broker's"):
        migrate(engine)

    with engine.connect() as conn:
        assert inspect(conn).get_table_names() == ["recipes"]
    engine.dispose()


def test_a_failed_migration_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = writing_engine(stores.sqlite_url(tmp_path), busy_timeout_s=1)
    folder = tmp_path / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, folder)
    first = folder / "versions" / "0001_first.py"
    first.write_text(first.read_text().replace("    _evidence()\n", "    raise LookupError\n"))
    monkeypatch.setattr(migrations, "_FOLDER", folder)

    with pytest.raises(LookupError):
        migrate(engine)

    with engine.connect() as conn:
        assert inspect(conn).get_table_names() == []
    engine.dispose()


def test_an_installed_package_finds_its_migrations(tmp_path: Path) -> None:
    """Copied elsewhere and run from elsewhere, as a wheel unpacks it."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "site" / "broker", ignore=ignored)
    database = tmp_path / "fame.db"
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.path.remove('')\n"
        "from broker.edge.database import writing_engine\n"
        "from broker.edge import migrations\n"
        "assert migrations.__file__.startswith(sys.argv[1]), migrations.__file__\n"
        "migrations.migrate(writing_engine('sqlite:///' + sys.argv[2], busy_timeout_s=1))\n"
    )

    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "site"), str(database)],
        cwd=tmp_path,
        check=True,
        timeout=60,
    )

    with sqlite3.connect(database) as conn:
        assert conn.execute("SELECT version_num FROM alembic_version").fetchone() == (HEAD,)
    conn.close()

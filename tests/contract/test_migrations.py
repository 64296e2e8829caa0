"""The schema is made and kept by migrations alone, wherever the package lies."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, text

import broker
from broker.core.errors import Permanent
from broker.edge import migrations
from broker.edge.database import Database, StoreSettings, open_database
from broker.edge.migrations import HEAD, migrate
from broker.edge.partitions import PARENT
from broker.edge.tables import metadata

PACKAGE = Path(broker.__file__).parent


def config(conn: Connection | None = None) -> Config:
    made = Config()
    made.set_main_option("script_location", str(Path(migrations.__file__).parent))
    made.attributes["connection"] = conn
    return made


def test_the_newest_version_is_the_one_the_program_asks_for() -> None:
    assert ScriptDirectory.from_config(config()).get_heads() == [HEAD]


@pytest.fixture
def database(blank_url: str) -> Iterator[Database]:
    opened = open_database(blank_url, StoreSettings())
    yield opened
    opened.close(sound=True)


def test_migrating_makes_exactly_the_schema_that_the_tables_describe(database: Database) -> None:
    migrate(database.migration())

    with database.writing.connect() as conn:
        assert differences(conn) == []
        assert definitions(conn) == described(conn)


def differences(conn: Connection) -> list[object]:
    """Return what differs from the tables; their partitions are theirs."""

    def counts(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "table" or not (name or "").startswith(f"{PARENT}_")

    context = MigrationContext.configure(conn, opts={"include_name": counts})
    return list(compare_metadata(context, metadata))


def described(conn: Connection) -> dict[str, str]:
    """Return what the tables alone would have made."""
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql("CREATE SCHEMA plain")
        conn.exec_driver_sql("SET LOCAL search_path TO plain")
        metadata.create_all(conn)
        made = definitions(conn)
        conn.rollback()
        return made
    plain = create_engine("sqlite://")
    with plain.connect() as other:
        metadata.create_all(other)
        made = definitions(other)
    plain.dispose()
    return made


def definitions(conn: Connection) -> dict[str, str]:
    """Return each table's and index's SQL: what `compare_metadata` compares, and all else."""
    rows = conn.exec_driver_sql(_PG if conn.dialect.name == "postgresql" else _SQLITE)
    return {name: " ".join(sorted(sql.replace(",", " ").split())) for name, sql in rows}


_SQLITE = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name != 'alembic_version'"
_PG = """
SELECT indexname, replace(indexdef, current_schema() || '.', '') FROM pg_indexes
 WHERE schemaname = current_schema() AND tablename != 'alembic_version'
   AND NOT starts_with(tablename, 'sealed_body_')
UNION ALL
SELECT table_name || '.' || column_name,
       concat_ws(' ', data_type, character_maximum_length, is_nullable, column_default)
  FROM information_schema.columns
 WHERE table_schema = current_schema() AND table_name != 'alembic_version'
   AND NOT starts_with(table_name, 'sealed_body_')
UNION ALL
SELECT conrelid::regclass || ' ' || conname, pg_get_constraintdef(oid) FROM pg_constraint
 WHERE connamespace = current_schema()::regnamespace AND conrelid != 0
   AND conname != 'alembic_version_pkc'
   AND conrelid NOT IN (SELECT oid FROM pg_class WHERE relispartition)
"""


def test_migrating_twice_changes_nothing(database: Database) -> None:
    migrate(database.migration())
    with database.writing.connect() as conn:
        before = definitions(conn)

    migrate(database.migration())

    with database.writing.connect() as conn:
        assert definitions(conn) == before


def test_each_version_can_be_taken_back_and_applied_again(database: Database) -> None:
    migrate(database.migration())

    with database.writing.begin() as conn:
        command.downgrade(config(conn), "base")
        left = inspect(conn).get_table_names()
    migrate(database.migration())

    assert left == ["alembic_version"]
    with database.writing.connect() as conn:
        assert differences(conn) == []


def test_bodies_move_to_their_table_and_back(database: Database) -> None:
    """As 0009 had them: one that can be read, reduced for one recipient, and one erased."""
    insert_message = text(
        "INSERT INTO message (id, sender, message_id, digest, message_type, schema_version,"
        " purpose, system, priority, created_at, received_at, expires_at, trace_id, size, kek_id,"
        " wrapped_key, body, receipt, ledger_seq) VALUES (:id, 's', :id, :body, 'T', '1.0', 'p',"
        " 'x', 'ROUTINE', 1, 1, 2, 't', 3, 'k', :key, :body, :body, 0)"
    )
    insert_delivery = text(
        "INSERT INTO delivery (id, message, recipient, order_key, position, state, attempts,"
        " next_at, expires_at, level, body)"
        " VALUES (:id, :message, :to, 'o', 0, 'pending', 0, 0, 0, 'L1', :body)"
    )
    with database.writing.begin() as conn:
        command.upgrade(config(conn), "0009")
        for id_, key, body in (("a", b"key", b"sent"), ("b", None, b"")):
            conn.execute(insert_message, {"id": id_, "key": key, "body": body})
        for of, to, shown in (("a", "less", b"shown"), ("a", "all", None), ("b", "less", b"")):
            values = {"id": of + to, "message": of, "to": to, "body": shown}
            conn.execute(insert_delivery, values)

    migrate(database.migration())

    with database.writing.begin() as conn:
        held = conn.exec_driver_sql("SELECT * FROM sealed_body ORDER BY recipient").all()
        reduced = conn.exec_driver_sql("SELECT id, reduced FROM delivery ORDER BY id").all()
        command.downgrade(config(conn), "0009")
        sent = conn.exec_driver_sql("SELECT id, body FROM message ORDER BY id").all()
        less = conn.exec_driver_sql("SELECT id, body FROM delivery ORDER BY id").all()
    assert [tuple(map(words, row)) for row in held] == [("a", "", "sent"), ("a", "less", "shown")]
    assert [tuple(row) for row in reduced] == [("aall", False), ("aless", True), ("bless", True)]
    assert [tuple(map(words, row)) for row in sent] == [("a", "sent"), ("b", "")]
    assert [tuple(map(words, row)) for row in less] == [
        ("aall", None),
        ("aless", "shown"),
        ("bless", ""),
    ]


def words(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else value


def test_a_database_newer_than_the_program_is_left_alone(database: Database) -> None:
    migrate(database.migration())
    with database.writing.begin() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(Permanent, match="newer"):
        migrate(database.migration())


def test_a_database_of_somebody_else_is_left_alone(database: Database) -> None:
    with database.writing.begin() as conn:
        conn.exec_driver_sql("CREATE TABLE recipes (name TEXT)")

    with pytest.raises(Permanent, match="not the broker's"):
        migrate(database.migration())

    with database.writing.connect() as conn:
        assert inspect(conn).get_table_names() == ["recipes"]


def test_of_two_that_migrate_at_once_one_waits_and_finds_it_done(blank_url: str) -> None:
    databases = [open_database(blank_url, StoreSettings()) for _ in range(3)]

    with ThreadPoolExecutor(len(databases)) as threads:
        list(threads.map(lambda one: migrate(one.migration()), databases))

    with databases[0].writing.connect() as conn:
        assert differences(conn) == []
    for one in databases:
        one.close(sound=True)


def test_a_failed_migration_leaves_nothing(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, folder)
    first = folder / "versions" / "0001_first.py"
    first.write_text(first.read_text().replace("    _evidence()\n", "    raise LookupError\n"))
    monkeypatch.setattr(migrations, "_FOLDER", folder)

    with pytest.raises(LookupError):
        migrate(database.migration())

    with database.writing.connect() as conn:
        assert inspect(conn).get_table_names() == []


def test_an_installed_package_finds_its_migrations(tmp_path: Path) -> None:
    """Copied elsewhere and run from elsewhere, as a wheel unpacks it."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "site" / "broker", ignore=ignored)
    database = tmp_path / "fame.db"
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.path.remove('')\n"
        "from broker.edge.database import StoreSettings, open_database\n"
        "from broker.edge import migrations\n"
        "assert migrations.__file__.startswith(sys.argv[1]), migrations.__file__\n"
        "database = open_database('sqlite:///' + sys.argv[2], StoreSettings())\n"
        "migrations.migrate(database.migration())\n"
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

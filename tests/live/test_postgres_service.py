"""The PostgreSQL of the live tests is a real one, and keeps what it acknowledged."""

import psycopg
import pytest

from tests.live.services.postgres import Postgres

pytestmark = pytest.mark.live


def connect(url: str) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(url.replace("+psycopg", ""))


def test_it_syncs_to_disk_before_it_acknowledges(postgres_url: str) -> None:
    with connect(postgres_url) as database:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            row = database.execute(f"SHOW {setting}".encode()).fetchone()
            assert row == ("on",), setting


def test_what_was_committed_outlives_an_immediate_restart_and_what_was_not_does_not(
    postgres: Postgres, postgres_url: str
) -> None:
    postgres.breakable()
    database = connect(postgres_url)
    database.execute("CREATE TABLE kept (number integer)")
    database.execute("INSERT INTO kept VALUES (1)")
    database.commit()
    database.execute("INSERT INTO kept VALUES (2)")

    postgres.restart_immediate()
    with pytest.raises(psycopg.OperationalError):
        database.commit()
    database.close()

    with connect(postgres_url) as database:
        assert database.execute("SELECT number FROM kept").fetchall() == [(1,)]

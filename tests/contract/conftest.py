"""Each database that a store runs on: a suite that asks for `url` runs on all of them."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.contract import stores
from tests.live.services.postgres import Postgres

DATABASES = ("sqlite", "postgres")


@pytest.fixture(scope="session")
def shared_database(postgres: Postgres) -> Iterator[str]:
    """The URL of one database for many tests: to make one takes a second or two."""
    url = postgres.database(f"shared_{uuid4().hex}")
    yield url
    postgres.drop(url)


@pytest.fixture
def emptied_database(shared_database: str) -> str:
    """The URL of a database that may be used before, and in which there is nothing now."""
    stores.empty(shared_database)
    return shared_database


@pytest.fixture(params=DATABASES)
def blank_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without a table."""
    if request.param == "sqlite":
        yield stores.sqlite_url(tmp_path)
        return
    found = request.getfixturevalue("shared_database")
    assert isinstance(found, str)
    stores.empty(found, schema=True)
    yield found
    stores.empty(found, schema=True)


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of the test's own."""
    if request.param == "sqlite":
        return stores.sqlite_url(tmp_path)
    found = request.getfixturevalue("emptied_database")
    assert isinstance(found, str)
    return found

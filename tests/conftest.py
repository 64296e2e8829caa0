"""What every test can rely on."""

import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings

from tests.live.services.postgres import Postgres, external_server, start_server
from tests.sockets import ClosedWhenReset

# A machine that others use too is slow for a moment: that is no fault of the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# Not a filter of the warning: that would hide what a client itself leaves open, too.
ssl.SSLContext.sslsocket_class = ClosedWhenReset

UNIT = Path(__file__).parent / "unit"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Shut the sockets in tests of the pure core: what opens one there is a mistake."""
    for item in items:
        if UNIT in item.path.parents:
            item.add_marker(pytest.mark.disable_socket)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL with fsync on, or the one that ``DATABASE_URL`` names."""
    with tempfile.TemporaryDirectory(prefix="fame-postgres-") as directory:
        server = external_server() or start_server(Path(directory))
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty database of the test's own, for SQLAlchemy."""
    url = postgres.database(f"test_{uuid4().hex}")
    yield url
    postgres.drop(url)

"""TLS between the broker and its PostgreSQL, as `deploy/README.md` has it in `store.url`."""

from pathlib import Path

import psycopg
import pytest

from broker.core.errors import Transient
from broker.core.reasons import Reason
from tests.contract.pki import Authority
from tests.contract.stores import open_store
from tests.live.harness import running
from tests.live.services.postgres import Postgres
from tests.live.sizes import new_state, use_postgres

pytestmark = pytest.mark.live

ENCRYPTED = """
SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
WHERE datname = current_database() AND application_name = 'fame'
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "pki"
    folder.mkdir()
    return Authority(folder)


def verified(url: str, authority: Authority) -> str:
    return f"{url}?sslmode=verify-full&sslrootcert={authority.certificate}"


def refused(url: str) -> None:
    with pytest.raises(Transient) as caught:
        open_store(url)
    assert caught.value.reason is Reason.STORE_UNAVAILABLE


def test_a_broker_whose_settings_ask_for_it_speaks_tls_on_every_connection(
    postgres: Postgres, postgres_url: str, authority: Authority, tmp_path: Path
) -> None:
    server = authority.issue("postgres")
    state = new_state(tmp_path)
    use_postgres(state, verified(postgres_url, authority))

    with (
        postgres.encrypted(server.certificate, server.key),
        running(state),
        psycopg.connect(postgres_url.replace("+psycopg", "")) as admin,
    ):
        spoken = admin.execute(ENCRYPTED).fetchall()

    assert spoken == [(True,)]


def test_a_server_that_cannot_be_verified_is_not_spoken_to(
    postgres: Postgres, postgres_url: str, authority: Authority, tmp_path: Path
) -> None:
    server = authority.issue("postgres")
    strangers = Authority(tmp_path, "strangers")
    elsewhere = postgres_url.replace("@127.0.0.1", "@db.example")

    refused(verified(postgres_url, authority))  # it does not speak TLS yet
    with postgres.encrypted(server.certificate, server.key):
        refused(verified(postgres_url, strangers))
        refused(f"{verified(elsewhere, authority)}&hostaddr=127.0.0.1")
        open_store(verified(postgres_url, authority))._close()

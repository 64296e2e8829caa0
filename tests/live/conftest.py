"""Real services for the live tests: started once, when the first test asks, and always ended."""

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.live.services.kafka import (
    KafkaCluster,
    external_cluster,
    start_cluster,
    wait_until_well,
)

CLOSED_S = 3.0  # TLS takes its leave of the other side


@pytest.fixture(scope="session")
def kafka_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """A Kafka of three nodes, or the one that ``KAFKA_BOOTSTRAP`` names."""
    cluster = external_cluster() or start_cluster(tmp_path_factory.mktemp("kafka"))
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def kafka(kafka_session: KafkaCluster) -> Iterator[KafkaCluster]:
    """The Kafka, with all its nodes running, whatever the test before did to them."""
    kafka_session.heal()
    wait_until_well(kafka_session)
    yield kafka_session
    # A connection that aiokafka was still making to a node that was held belongs to nobody: it
    # is collected here and not as the fault of another test. What is ours says so (`Unclosed`).
    with warnings.catch_warnings():
        foreign = "loop is closed|unclosed (transport|<socket)"
        warnings.filterwarnings("ignore", foreign, ResourceWarning)
        gc.collect()


@pytest.fixture
async def no_socket_left() -> AsyncIterator[None]:
    """Fail the test when a connection is still open soon after its end."""
    yield
    loop = asyncio.get_running_loop()
    until = loop.time() + CLOSED_S
    while len(loop._selector.get_map()) > 1:  # type: ignore[attr-defined]  # one is the loop's own
        assert loop.time() < until, "a connection was not closed"
        await asyncio.sleep(0.01)

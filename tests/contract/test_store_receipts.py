"""What the store gives out follows the published schema and carries a true signature."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lxml import etree

from broker.core.identity import AgencyId, MessageId, SubmissionId
from broker.core.outcome import RecipientVerdict
from broker.core.reasons import Reason
from broker.core.receipt import evidence_xml
from broker.core.submission import Acknowledgement, Place
from tests.contract import stores
from tests.contract.stores import OTHER, PERMITTED, RECIPIENT, REFUSED, submission

SCHEMA = Path(__file__).parents[2] / "schemas" / "receipt" / "1.0" / "receipt.xsd"
UUIDS = ("01931b5e-0000-7000-8000-000000000001", "01931b5e-0000-7000-8000-000000000002")
LEVELS = ["L2", "L3", "L4", "delivered", "refused", "undeliverable", "expired", "recalled"]


@pytest.fixture(scope="module")
def schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(SCHEMA))


async def test_a_receipt_follows_its_schema(tmp_path: Path, schema: etree.XMLSchema) -> None:
    store = stores.open_store(stores.sqlite_url(tmp_path))
    warned = replace(PERMITTED, warnings=("the agreement's review is due",))
    verdicts = (
        RecipientVerdict(RECIPIENT, warned, b"<less/>", ("Child/Address", "Child/Name[2]")),
        RecipientVerdict(OTHER, REFUSED),
    )

    accepted = await store.submit(submission(UUIDS[0], verdicts=verdicts))
    await store.close()

    assert schema.validate(etree.fromstring(accepted.receipt)), schema.error_log


@pytest.mark.parametrize("level", LEVELS)
def test_evidence_follows_its_schema(level: str, schema: etree.XMLSchema) -> None:
    document = stores.sign(evidence_xml(acknowledged(level), Place(0, bytes(32)), stores.ISSUER))

    assert schema.validate(etree.fromstring(document)), schema.error_log


@pytest.mark.parametrize("reason", list(Reason), ids=lambda reason: reason.value)
def test_evidence_may_give_any_reason(reason: Reason, schema: etree.XMLSchema) -> None:
    given = replace(acknowledged("refused"), reason=reason)

    document = evidence_xml(given, Place(0, bytes(32)), stores.ISSUER)

    assert schema.validate(etree.fromstring(document)), schema.error_log


def acknowledged(level: str) -> Acknowledgement:
    return Acknowledgement(
        submission_id=SubmissionId(UUIDS[0]),
        message_id=MessageId(UUIDS[1]),
        sender=AgencyId("sunderland-yot"),
        recipient=RECIPIENT,
        message_digest=b"\x01" * 32,
        level=level,
        at=datetime(2026, 11, 20, 9, tzinfo=UTC),
    )

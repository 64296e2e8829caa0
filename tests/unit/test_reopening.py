from hashlib import sha256

import pytest
from lxml import etree

from broker.core.errors import Permanent, Rejection
from broker.core.identity import MessageId
from broker.core.message import Address, Header
from broker.core.reopening import reopen
from broker.core.samples import sample_payload
from broker.core.signature_signxml import SignxmlVerifier
from broker.core.signing import build_envelope, sign_envelope
from tests.unit.signing_world import NOW, OTHER, SENDER, examined, schemas, signing_key

HEADER = Header(
    message_id=MessageId("01938af0-2222-7000-8000-000000000002"),
    message_type="Referral",
    schema_version="1.0",
    sender=SENDER,
    system="liquidlogic",
    recipients=(Address(agency_id=OTHER),),
    purpose="CP",
    created_at=NOW,
)
RAW = sign_envelope(build_envelope(HEADER, sample_payload("Referral", 1)), signing_key())


def spaced(raw: bytes) -> bytes:
    """Return a message that was signed with white space on all sides of its signature."""
    root = etree.fromstring(raw)
    root.remove(root[-1])
    root[-1].tail = "\n  "
    return sign_envelope(etree.tostring(root), signing_key())


@pytest.mark.parametrize("raw", [RAW, spaced(RAW)], ids=["compact", "spaced"])
def test_a_message_is_reopened_as_it_was_when_it_was_accepted(raw: bytes) -> None:
    accepted = examined(raw)

    reopened = reopen(raw, accepted.digest, schemas(), signer="f" * 64, algorithm="rsa-sha256")

    assert reopened.header == accepted.header
    assert reopened.subject == accepted.subject
    assert reopened.verified.signed == accepted.verified.signed
    assert reopened.verified.raw == raw
    assert reopened.digest == accepted.digest
    assert etree.tostring(reopened.payload) == etree.tostring(accepted.payload)
    assert reopened.catalogue_digest == accepted.catalogue_digest
    assert (reopened.verified.signer, reopened.verified.algorithm) == ("f" * 64, "rsa-sha256")


def test_text_behind_the_signature_belongs_to_what_was_signed() -> None:
    root = etree.fromstring(RAW)
    root.remove(root[-1])
    unsigned = etree.tostring(root, method="c14n", exclusive=True)
    end = unsigned.rindex(b"</")
    with_tail = unsigned[:end] + b"\n" + unsigned[end:]
    signed = sign_envelope(with_tail, signing_key())
    signature = signed[signed.index(b"<ds:Signature ") : signed.rindex(b"</ds:Signature>") + 15]
    moved = signed.replace(b"\n" + signature, signature + b"\n", 1)
    assert moved != signed
    accepted = examined(moved, SignxmlVerifier())

    assert reopen(moved, accepted.digest, schemas()).digest == accepted.digest


def test_bytes_that_are_not_those_accepted_are_not_reopened() -> None:
    digest = examined(RAW).digest

    with pytest.raises(Permanent) as fault:
        reopen(RAW.replace(b"CP", b"EH", 1), digest, schemas())
    assert "CP" not in str(fault.value)
    with pytest.raises(Permanent):
        reopen(RAW, sha256(RAW).digest(), schemas())


def test_what_has_no_signature_is_not_reopened() -> None:
    unsigned = build_envelope(HEADER, sample_payload("Referral", 1))

    with pytest.raises(Rejection):
        reopen(unsigned, sha256(unsigned).digest(), schemas())

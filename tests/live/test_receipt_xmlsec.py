"""Receipts and evidence verify with a tool that nobody here wrote, and only when untouched."""

import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from broker.core.receipt import evidence_xml, receipt_xml
from broker.core.submission import Place
from tests.contract import stores
from tests.contract.test_store_receipts import acknowledged
from tests.live.tools import require

pytestmark = pytest.mark.live

PLACE = Place(7, bytes(range(32)))
DOCUMENTS = {
    "receipt": receipt_xml(stores.submission(), PLACE, stores.ISSUER),
    "evidence": evidence_xml(acknowledged("L2"), PLACE, stores.ISSUER),
}


def verifies(folder: Path, document: bytes) -> bool:
    certificate = x509.load_der_x509_certificate(stores.signing_key().certificate_der)
    (folder / "broker.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "document.xml").write_bytes(document)
    done = subprocess.run(
        [
            require("xmlsec1"),
            "--verify",
            "--enabled-key-data",
            "key-name",
            "--pubkey-cert-pem",
            str(folder / "broker.pem"),
            str(folder / "document.xml"),
        ],
        check=False,
        capture_output=True,
        timeout=30,
    )
    return done.returncode == 0


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_what_the_broker_signed_verifies_with_xmlsec1(tmp_path: Path, kind: str) -> None:
    assert verifies(tmp_path, stores.sign(DOCUMENTS[kind]))


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_one_changed_digit_is_noticed_by_xmlsec1(tmp_path: Path, kind: str) -> None:
    signed = stores.sign(DOCUMENTS[kind])

    changed = signed.replace(b"<Sequence>7<", b"<Sequence>8<")

    assert changed != signed
    assert not verifies(tmp_path, changed)

"""The main job with tools that nobody here wrote: xmlsec1 signs, curl sends, openssl checks."""

import base64
import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from lxml import etree

from broker.cli.init import make
from broker.core.samples import sample_payload
from broker.edge.ids import new_id
from tests.bench.bench_http import Flow
from tests.live.harness import BrokerProcess, running
from tests.live.tools import require

# What a supplier writes by hand or copies from a manual, in no canonical form on purpose.
TEMPLATE = """<?xml version="1.0" encoding="UTF-8"?>
<e:Envelope xmlns:e="urn:fame:envelope:1.0" version="1.0" Id="message">
  <e:Header>
    <e:MessageId>{message_id}</e:MessageId>
    <e:MessageType>{message_type}</e:MessageType>
    <e:SchemaVersion>1.0</e:SchemaVersion>
    <e:Sender><e:AgencyId>{sender}</e:AgencyId><e:SystemId>{system}</e:SystemId></e:Sender>
    <e:Recipient><e:AgencyId>{recipient}</e:AgencyId></e:Recipient>
    <e:Purpose>{purpose}</e:Purpose>
    <e:Handling>
      <e:Classification>OFFICIAL</e:Classification>
      <e:Shielded>false</e:Shielded>
      <e:Priority>ROUTINE</e:Priority>
      <e:Acknowledge>L2</e:Acknowledge>
    </e:Handling>
    <e:CreatedAt>{created_at}</e:CreatedAt>
  </e:Header>
  <e:Payload>{payload}</e:Payload>
  <ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#">
    <ds:SignedInfo>
      <ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>
      <ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#{method}"/>
      <ds:Reference URI="{reference}">
        <ds:Transforms>
          <ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>
          <ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>
        </ds:Transforms>
        <ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/>
        <ds:DigestValue/>
      </ds:Reference>
    </ds:SignedInfo>
    <ds:SignatureValue/>
    <ds:KeyInfo><ds:X509Data/></ds:KeyInfo>
  </ds:Signature>
</e:Envelope>
"""
FLOWS = (
    Flow("gateshead-hr", "itrent", "ne-jobs-portal", "VacancyPublished", "JOBS"),
    Flow("hylton-school", "sims", "sunderland-csc", "Referral", "CP"),
    Flow("northumbria-police", "niche", "sunderland-csc", "Referral", "CP"),
)
ID_ATTRIBUTE = "--id-attr:Id", "urn:fame:envelope:1.0:Envelope"
DS = "{http://www.w3.org/2000/09/xmldsig#}"


@dataclass(frozen=True, slots=True)
class Outside:
    """A running broker, the tools, and where to write."""

    broker: BrokerProcess
    xmlsec1: str
    curl: str
    openssl: str
    folder: Path

    def keys_of(self, agency: str) -> Path:
        return self.broker.state / "agencies" / agency

    def signed(self, reference: str = "", **facts: str) -> Path:
        """Fill the template and have xmlsec1 sign it with the sender's key."""
        template, signed = self.folder / "template.xml", self.folder / "signed.xml"
        text = TEMPLATE.format(
            reference=reference,
            message_id=new_id(),
            created_at=datetime.now(UTC).isoformat(),  # noqa: TID251 - what a sender does
            **facts,
        )
        template.write_text(text, encoding="utf-8")
        keys = self.keys_of(facts["sender"])
        key = f"{keys / 'signing.key.pem'},{keys / 'signing.cert.pem'}"
        self.run(
            self.xmlsec1, "--sign", *ID_ATTRIBUTE, "--privkey-pem", key,
            "--output", str(signed), str(template),
        )  # fmt: skip
        return signed

    def send(self, path: Path, agency: str) -> tuple[int, bytes]:
        """Post the file with curl as ``agency``'s system, by mutual TLS."""
        keys, answer = self.keys_of(agency), self.folder / "answer"
        status = self.run(
            self.curl, "--silent", "--show-error", "--noproxy", "*",
            "--cacert", str(self.broker.state / "ca" / "ca.cert.pem"),
            "--cert", str(keys / "tls.cert.pem"), "--key", str(keys / "tls.key.pem"),
            "--header", "Content-Type: application/xml", "--data-binary", f"@{path}",
            "--output", str(answer), "--write-out", "%{http_code}",
            f"https://localhost:{self.broker.port}/messages",
        )  # fmt: skip
        return int(status), answer.read_bytes()

    def run(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, check=False, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    xmlsec1, curl, openssl = (require(name) for name in ("xmlsec1", "curl", "openssl"))
    folder = tmp_path_factory.mktemp("outside")
    state = folder / "broker"
    make(state, sandbox=True, port=0, at=datetime.now(UTC))  # noqa: TID251 - a new sandbox
    with running(state) as broker:
        yield Outside(broker, xmlsec1, curl, openssl, folder)


def facts(outside: Outside, flow: Flow) -> dict[str, str]:
    key = outside.run(
        outside.openssl, "x509", "-noout", "-text", "-in",
        str(outside.keys_of(flow.sender) / "signing.cert.pem"),
    )  # fmt: skip
    payload = sample_payload(flow.message_type, 7).decode()
    return {
        "sender": flow.sender,
        "system": flow.system,
        "recipient": flow.recipient,
        "message_type": flow.message_type,
        "purpose": flow.purpose,
        "method": "rsa-sha256" if "rsaEncryption" in key else "ecdsa-sha256",
        "payload": re.sub(r"^<\?xml[^>]*\?>\s*", "", payload),
    }


def of_each_kind(outside: Outside) -> list[dict[str, str]]:
    """One message of a sender that signs with RSA, one of a sender that signs with ECDSA."""
    offers = [facts(outside, flow) for flow in FLOWS]
    chosen = {offer["method"]: offer for offer in reversed(offers)}
    assert set(chosen) == {"rsa-sha256", "ecdsa-sha256"}
    return list(chosen.values())


@pytest.mark.parametrize("reference", ["", "#message"], ids=["whole-document", "root-id"])
def test_what_xmlsec1_signed_and_curl_sent_is_accepted(outside: Outside, reference: str) -> None:
    for offer in of_each_kind(outside):
        path = outside.signed(reference, **offer)

        status, receipt = outside.send(path, offer["sender"])

        assert status == 202, receipt
        root = etree.fromstring(receipt)
        assert root.findtext("{*}Outcome/{*}Decision") == "PERMITTED"


def test_one_changed_byte_is_refused_with_the_code_for_it(outside: Outside) -> None:
    for offer in of_each_kind(outside):
        path = outside.signed(**offer)
        path.write_bytes(path.read_bytes().replace(b">OFFICIAL<", b">OFFICIAL-SENSITIVE<"))

        status, problem = outside.send(path, offer["sender"])

        assert status == 400
        assert b"sender.signature.digest_mismatch" in problem


def test_the_receipt_verifies_with_xmlsec1(outside: Outside) -> None:
    path = outside.signed(**of_each_kind(outside)[0])
    _, receipt = outside.send(path, of_each_kind(outside)[0]["sender"])
    kept = outside.folder / "receipt.xml"
    kept.write_bytes(receipt)
    certificate = str(outside.broker.state / "keys" / "receipt.cert.pem")
    pinned = ("--enabled-key-data", "key-name", "--pubkey-cert-pem", certificate)
    check = (outside.xmlsec1, "--verify", *pinned)

    outside.run(*check, str(kept))
    kept.write_bytes(receipt.replace(b"PERMITTED", b"REFUSED"))

    altered = subprocess.run([*check, str(kept)], capture_output=True, check=False)
    assert altered.returncode != 0


def test_the_receipt_verifies_with_openssl_alone(outside: Outside) -> None:
    """Its bytes are canonical as they stand, so cutting and hashing them is all there is to do."""
    offer = of_each_kind(outside)[0]
    _, receipt = outside.send(outside.signed(**offer), offer["sender"])
    start, end = receipt.index(b"<ds:Signature "), receipt.index(b"</ds:Signature>") + 15
    unsigned = receipt[:start] + receipt[end:]
    info = receipt[receipt.index(b"<ds:SignedInfo>") : receipt.index(b"</ds:SignedInfo>") + 16]
    apex = info.replace(
        b"<ds:SignedInfo>", b'<ds:SignedInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#">'
    )
    root = etree.fromstring(receipt)
    digest = base64.b64decode(root.findtext(f".//{DS}DigestValue") or "")
    raw = base64.b64decode(root.findtext(f".//{DS}SignatureValue") or "")
    r, s = int.from_bytes(raw[:32]), int.from_bytes(raw[32:])
    certificate = x509.load_pem_x509_certificate(
        (outside.broker.state / "keys" / "receipt.cert.pem").read_bytes()
    )
    public_key = certificate.public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    folder = outside.folder
    (folder / "apex").write_bytes(apex)
    (folder / "signature.der").write_bytes(encode_dss_signature(r, s))
    (folder / "key.pem").write_bytes(
        public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )

    said = outside.run(
        outside.openssl, "dgst", "-sha256", "-verify", str(folder / "key.pem"),
        "-signature", str(folder / "signature.der"), str(folder / "apex"),
    )  # fmt: skip

    assert said.strip() == "Verified OK"
    assert hashlib.sha256(unsigned).digest() == digest


def test_a_system_cannot_speak_for_another_agency(outside: Outside) -> None:
    offer = of_each_kind(outside)[0]
    path = outside.signed(**offer)

    status, problem = outside.send(path, "ne-jobs-portal")

    assert status == 403
    assert json.loads(problem)["code"] == "sender.peer_not_sender"

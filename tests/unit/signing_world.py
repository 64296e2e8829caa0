"""Agencies, keys and a moment in which every genuine vector is accepted."""

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from lxml import etree

from broker.core.agency import Agency, RegisteredKey, System, registered_key
from broker.core.envelope import NAMESPACE
from broker.core.examine import examine
from broker.core.identity import AgencyId
from broker.core.limits import LIMITS
from broker.core.message import ValidMessage
from broker.core.schema import SchemaSet
from broker.core.signature import ProfileVerifier, Verifier
from broker.core.signature_signxml import SignxmlVerifier
from broker.core.signing import SigningKey, load_signing_key
from broker.edge.schemas import load_schemas

ROOT = Path(__file__).parents[2]
KEYS = ROOT / "tests/vectors/keys"
NOW = datetime(2026, 11, 20, 10, 5, tzinfo=UTC)
SENDER, OTHER = AgencyId("sunderland-csc"), AgencyId("gateshead-csc")
VERIFIERS: dict[str, Verifier] = {"profile": ProfileVerifier(), "signxml": SignxmlVerifier()}


@cache
def key(name: str) -> RegisteredKey:
    """Return a key of the vectors as it is registered."""
    revoked_at = NOW - timedelta(days=1) if name == "sender-revoked" else None
    return registered_key((KEYS / f"{name}.cert.pem").read_bytes(), revoked_at=revoked_at)


@cache
def signing_key(name: str = "sender-rsa") -> SigningKey:
    """Return a key of the vectors as its holder has it."""
    return load_signing_key(
        (KEYS / f"{name}.key.pem").read_bytes(), (KEYS / f"{name}.cert.pem").read_bytes()
    )


SENDER_KEYS = tuple(
    key(f"sender-{name}")
    for name in ("rsa", "p256", "p384", "p521", "weak", "revoked", "expired", "cipher")
)
AGENCIES = {
    SENDER: Agency(
        agency_id=SENDER,
        name="Sunderland children's social care",
        type="LA_CSC",
        keys=SENDER_KEYS,
        systems=(System("liquidlogic"),),
    ),
    OTHER: Agency(
        agency_id=OTHER,
        name="Gateshead children's social care",
        type="LA_CSC",
        keys=(key("other-rsa"),),
        systems=(System("liquidlogic"), System("mosaic")),
    ),
}


@cache
def schemas() -> SchemaSet:
    """Return the schemas of this checkout."""
    return load_schemas(ROOT / "schemas")


class LaxSchemas:
    """An envelope schema that takes anything, so that the verifier stands alone."""

    envelope = etree.XMLSchema(
        etree.fromstring(
            '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" '
            f'targetNamespace="{NAMESPACE}"><xs:element name="Envelope" type="xs:anyType"/>'
            "</xs:schema>"
        )
    )


LAX = LaxSchemas()


def examined(
    raw: bytes,
    verifier: Verifier = VERIFIERS["profile"],
    *,
    peer: frozenset[AgencyId] | None = None,
    now: datetime = NOW,
) -> ValidMessage:
    """Examine ``raw`` in this world."""
    return examine(
        raw,
        peer_agencies=peer,
        agencies=AGENCIES,
        schemas=schemas(),
        verifier=verifier,
        limits=LIMITS,
        now=now,
    )

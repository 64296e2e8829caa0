"""A message taken out of the store again, as it was when it was accepted.

Its signature was verified then and is not verified again; whether its key still counts is
asked where it is disclosed (`trust.withdrawn`). What is checked is that these are the bytes
accepted, by the digest that the receipt and the ledger name.
"""

from hashlib import sha256

from lxml import etree

from broker.core.envelope import PAYLOAD, parse, read_header
from broker.core.errors import Permanent
from broker.core.message import ValidMessage, VerifiedMessage
from broker.core.reasons import Reason
from broker.core.schema import SchemaSet
from broker.core.signature import only_signature


def reopen(
    raw: bytes, digest: bytes, schemas: SchemaSet, *, signer: str = "", algorithm: str = ""
) -> ValidMessage:
    """Return the message that was accepted as ``raw`` with the SHA-256 ``digest``.

    Raises:
        Permanent: these are not the bytes that were accepted.
    """
    signed = _signed_bytes(parse(raw))
    if sha256(signed).digest() != digest:
        raise Permanent(Reason.INTERNAL, "a stored message is not the one that was accepted")
    root = parse(signed)
    header = read_header(root)
    payload = root.find(f"{PAYLOAD}/*")
    assert payload is not None  # it was there when the digest was made
    verified = VerifiedMessage(raw, signed, root, header, digest, signer, algorithm)
    return ValidMessage(
        verified=verified,
        header=header,
        payload=payload,
        subject=schemas.subject(header.message_type, header.schema_version, payload),
        catalogue_digest=schemas.digest,
    )


def _signed_bytes(root: etree._Element) -> bytes:
    """Return the canonical bytes that an enveloped signature covers."""
    signature = only_signature(root)
    before, tail = signature.getprevious(), signature.tail
    root.remove(signature)
    # Removing an element takes the text behind it along, and that text is signed.
    if before is not None and tail:
        before.tail = (before.tail or "") + tail
    return etree.tostring(root, method="c14n", exclusive=True, with_comments=False)

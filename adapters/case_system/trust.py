"""Whose signature is on this? Nothing that came is believed before the answer is known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from http_message_signatures import (
    HTTPMessageSignaturesException,
    HTTPMessageVerifier,
    MappingKeyResolver,
)
from lxml import etree

from adapters.case_system.settings import Settings
from adapters.webhook import COVERED, SIGNATURE_TAG, algorithm_of
from broker.core.envelope import NAMESPACE, PAYLOAD, parse, read_header
from broker.core.errors import Rejection
from broker.core.message import Header
from broker.core.signature import verify_root

REDUCED = f"{{{NAMESPACE}}}ReducedEnvelope"


class UntrustedError(Exception):
    """The signature is missing, wrong, or of somebody we do not know."""


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request as the signature library reads it."""

    method: str
    url: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Message:
    """A message whose signature holds. ``reduced``: the broker's signature, not the sender's."""

    header: Header
    payload: etree._Element = field(repr=False)
    reduced: bool


def check_request(request: Request, body: bytes, settings: Settings) -> None:
    """Return if our broker made this very request, of late and for us (RFC 9421).

    Raises:
        UntrustedError: it did not.
    """
    for key in settings.keys[settings.broker]:
        public: Any = key.public_key
        verifier = HTTPMessageVerifier(
            signature_algorithm=algorithm_of(public),
            key_resolver=MappingKeyResolver(public_keys={key.fingerprint: public}, private_keys={}),
        )
        try:
            verifier.verify(
                request, body=body, expect_tag=SIGNATURE_TAG, require_components=COVERED
            )
        except HTTPMessageSignaturesException:
            continue
        if request.headers.get("fame-recipient") == settings.agency:
            return
    raise UntrustedError


def check_envelope(body: bytes, settings: Settings, now: datetime) -> Message:
    """Return the message in ``body``, proved to be its sender's or, if reduced, the broker's.

    Raises:
        UntrustedError: it is neither.
    """
    try:
        root = parse(body)
        reduced = root.tag == REDUCED
        # Who it claims to be from only chooses the keys that have to prove it.
        claimed = root.findtext("{*}Header/{*}Sender/{*}AgencyId", "")
        signer = settings.broker if reduced else claimed
        keys = {str(name): keys for name, keys in settings.keys.items()}.get(signer, ())
        signed = parse(verify_root(root, keys, now).signed)
        header, payload = read_header(signed), signed.find(f"{PAYLOAD}/*")
    except Rejection as rejection:
        raise UntrustedError from rejection
    if payload is None:
        raise UntrustedError
    return Message(header, payload, reduced)

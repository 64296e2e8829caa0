"""The broker's signed word: a receipt for each submission, evidence for each delivery.

Both are written as exclusive canonical XML from the start, so a signature can be made over
these very bytes, and both are checked with any XML signature tool and the broker's
certificate. Schema: schemas/receipt/1.0.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lxml import etree

from broker.core.envelope import parse
from broker.core.errors import Rejection
from broker.core.identity import AgencyId
from broker.core.instant import rfc3339
from broker.core.outcome import Permitted, RecipientVerdict
from broker.core.reasons import Reason
from broker.core.submission import Acknowledgement, Place, Submission

NAMESPACE = "urn:fame:receipt:1.0"
# What XML 1.0 §2.2 cannot hold, and what Canonical XML 1.0 §2.3 writes otherwise in text.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#xD;"})

_KINDS = {f"{{{NAMESPACE}}}Receipt": "receipt", f"{{{NAMESPACE}}}Evidence": "evidence"}
_PLURALS = {"Outcome": "outcomes", "Warning": "warnings", "Withheld": "withheld"}
_CAPITAL = re.compile("(?<!^)(?=[A-Z])")
_SEQUENCE = re.compile("[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who gives receipts: the broker's agency id, and the function that signs for it.

    ``sign`` takes canonical bytes without a signature and returns them with one.
    ``sandbox`` marks every document as worth nothing outside a trial.
    """

    broker: AgencyId
    sign: Callable[[bytes], bytes]
    sandbox: bool = False


def receipt_xml(submission: Submission, place: Place, issuer: Issuer) -> bytes:
    """Return the unsigned canonical receipt for ``submission``, whose entry is at ``place``.

    Raises:
        ValueError: a text holds a character that XML cannot, or an id holds markup.
    """
    header, message = submission.message.header, submission.message
    digest, received_at = message.digest.hex(), rfc3339(submission.received_at)
    _require_plain(
        f"{submission.submission_id}{header.message_id}{header.sender}{header.message_type}"
        f"{header.schema_version}{submission.register_digest}{message.catalogue_digest}"
    )
    return (
        f'<Receipt xmlns="{NAMESPACE}" version="1.0">'
        f"<SubmissionId>{submission.submission_id}</SubmissionId>"
        f"<MessageId>{header.message_id}</MessageId>"
        f"<Sender>{header.sender}</Sender>"
        f"<MessageType>{header.message_type}</MessageType>"
        f"<SchemaVersion>{header.schema_version}</SchemaVersion>"
        f"<MessageDigest>{digest}</MessageDigest>"
        f"<ReceivedAt>{received_at}</ReceivedAt>"
        f"{''.join(map(_outcome, submission.verdicts))}"
        f"<RegisterDigest>{submission.register_digest}</RegisterDigest>"
        f"<CatalogueDigest>{message.catalogue_digest}</CatalogueDigest>"
        f"{_ledger(place)}{_each('Warning', submission.warnings)}{_issuer(issuer)}</Receipt>"
    ).encode()


def evidence_xml(acknowledgement: Acknowledgement, place: Place, issuer: Issuer) -> bytes:
    """Return the unsigned canonical evidence of ``acknowledgement``.

    Raises:
        ValueError: an id holds markup.
    """
    _require_plain(
        f"{acknowledgement.submission_id}{acknowledgement.message_id}{acknowledgement.sender}"
        f"{acknowledgement.recipient}{acknowledgement.level}"
    )
    reason = "" if acknowledgement.reason is None else acknowledgement.reason.value
    return (
        f'<Evidence xmlns="{NAMESPACE}" version="1.0">'
        f"<SubmissionId>{acknowledgement.submission_id}</SubmissionId>"
        f"<MessageId>{acknowledgement.message_id}</MessageId>"
        f"<Sender>{acknowledgement.sender}</Sender>"
        f"<Recipient>{acknowledgement.recipient}</Recipient>"
        f"<MessageDigest>{acknowledgement.message_digest.hex()}</MessageDigest>"
        f"<Level>{acknowledgement.level}</Level>"
        f"<At>{rfc3339(acknowledgement.at)}</At>"
        f"{_optional('Reason', reason)}{_ledger(place)}{_issuer(issuer)}</Evidence>"
    ).encode()


def _outcome(verdict: RecipientVerdict) -> str:
    decision = verdict.decision
    _require_plain(verdict.recipient)
    if isinstance(decision, Permitted):
        return (
            f"<Outcome><Recipient>{verdict.recipient}</Recipient><Decision>PERMITTED</Decision>"
            f"{_optional('Protocol', decision.protocol)}{_optional('Clause', decision.clause)}"
            f"{_each('Withheld', verdict.withheld)}</Outcome>"
        )
    return (
        f"<Outcome><Recipient>{verdict.recipient}</Recipient><Decision>REFUSED</Decision>"
        f"<Reason>{decision.reason.value}</Reason>{_optional('Change', decision.change)}"
        f"{_optional('Protocol', decision.protocol)}{_optional('Clause', decision.clause)}"
        "</Outcome>"
    )


def _ledger(place: Place) -> str:
    return f"<Ledger><Sequence>{place.sequence}</Sequence><Leaf>{place.leaf.hex()}</Leaf></Ledger>"


def _issuer(issuer: Issuer) -> str:
    _require_plain(issuer.broker)
    sandbox = "<Sandbox>true</Sandbox>" if issuer.sandbox else ""
    return f"<Broker>{issuer.broker}</Broker>{sandbox}"


def _each(name: str, texts: Iterable[str]) -> str:
    return "".join([_optional(name, text) for text in texts])


def _optional(name: str, text: str | None) -> str:
    """Return an element with ``text``, or nothing when there is none."""
    if not text:
        return ""
    return f"<{name}>{text if _plain(text) else _escaped(text)}</{name}>"


def _require_plain(ids: str) -> None:
    """Refuse ids and codes that need escaping: none of ours does, so they are not ours."""
    if not _plain(ids):
        raise ValueError("an id or a code holds markup")


def _plain(text: str) -> bool:
    """Say, at little cost, that ``text`` stands for itself in XML; "no" may be wrong."""
    return text.isprintable() and "&" not in text and "<" not in text and ">" not in text


def _escaped(text: str) -> str:
    if _FORBIDDEN.search(text):
        raise ValueError("the text holds a character that XML cannot")
    return text.translate(_ESCAPES)


def receipt_json(document: bytes) -> dict[str, object]:
    """Return a receipt or evidence, signed or not, as plain JSON values.

    The signature stays in the XML and is checked there; this view is for reading.

    Raises:
        Rejection: ``document`` is not XML, or is neither a receipt nor evidence.
    """
    root = parse(document)
    kind = _KINDS.get(root.tag)
    if kind is None:
        raise Rejection(Reason.SCHEMA, "neither a receipt nor evidence")
    always: dict[str, object] = {"outcomes": [], "warnings": []} if kind == "receipt" else {}
    return {"kind": kind, **always, "sandbox": False, **_members(root)}


def _members(element: etree._Element) -> dict[str, object]:
    view: dict[str, object] = {}
    for child in element.iterchildren(f"{{{NAMESPACE}}}*"):  # the signature is of another
        name = etree.QName(child).localname
        value = _members(child) if len(child) else _value(name, child.text or "")
        if name in _PLURALS:
            found = view.setdefault(_PLURALS[name], [])
            assert isinstance(found, list)
            found.append(value)
        else:
            view[_CAPITAL.sub("_", name).lower()] = value
    return view


def _value(name: str, text: str) -> str | int | bool:
    if name == "Sandbox":
        return text == "true"
    if name == "Sequence" and _SEQUENCE.fullmatch(text):
        return int(text)
    return text

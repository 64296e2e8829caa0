"""What the ledger says: one canonical entry for each thing that happened, and its leaf hash.

Entries are JSON in the canonical form of RFC 8785, hashed as leaves of an RFC 6962 tree.
They hold digests, codes, ids of agencies and pseudonyms, never a name, a value of a
payload or who the practitioner was, because the ledger is never erased. Their numbers run
from 0 without a gap in the order of commitment.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime

import orjson

from broker.core.instant import millis
from broker.core.message import Header
from broker.core.outcome import Permitted, RecipientVerdict
from broker.core.submission import Acknowledgement, Submission

VERSION = 1
_SCALARS = frozenset({str, int, bool, type(None)})
_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
_LEAF = b"\x00"  # RFC 6962 §2.1: leaves and inner nodes are told apart by their first byte


def canonical(value: object) -> bytes:
    """Return ``value`` as RFC 8785 canonical JSON.

    Only text, whole numbers up to 2^53 - 1, booleans, null, lists and objects with ASCII
    names are taken: for these orjson's sorted output is the canonical form. Numbers with a
    fraction are not, because their canonical text is ECMAScript's.

    Raises:
        TypeError: ``value`` holds anything else.
    """
    _require_plain(value)
    return orjson.dumps(value, option=_OPTIONS)


def _require_plain(value: object) -> None:
    kind = type(value)  # exactly: orjson writes subclasses, dates and enums in its own way
    if kind is dict:
        for key, item in value.items():  # type: ignore[attr-defined]
            if type(key) is not str or not key.isascii():
                raise TypeError("the names in a ledger entry are ASCII text")
            if type(item) not in _SCALARS:
                _require_plain(item)
    elif kind is list:
        for item in value:  # type: ignore[attr-defined]
            if type(item) not in _SCALARS:
                _require_plain(item)
    elif kind not in _SCALARS:
        raise TypeError(f"a ledger entry does not hold a {kind.__name__}")


def leaf_hash(entry: bytes) -> bytes:
    """Return the leaf hash of a canonical entry: SHA-256 of a zero byte and the entry."""
    return hashlib.sha256(_LEAF + entry).digest()


def submission_entry(submission: Submission) -> dict[str, object]:
    """Return the entry of one submission: what came, from whom, and every decision on it.

    It holds what the decisions rested on but for the payload, so that they can be asked
    again: the signed header, the digests of both registers, and both clock readings. What
    the payload says of a person (grounds of harm, consent) is erased with the payload. Only
    when a clock started is kept, if it is the payload that says so.
    """
    message = submission.message
    stated = {name: millis(at) for name, at in submission.stated.items()}
    return {
        **({"stated": stated} if stated else {}),
        "v": VERSION,
        "kind": "submission",
        "submission": submission.submission_id,
        "digest": message.verified.digest.hex(),
        "signer": message.verified.signer,
        "algorithm": message.verified.algorithm,
        "peer": submission.peer,
        "header": _header(message.header),
        "subject": submission.subject_ref,
        "received_at": millis(submission.received_at),
        "decided_at": millis(submission.decided_at),
        "expires_at": millis(submission.expires_at),
        "register": submission.register_digest,
        "catalogue": message.catalogue_digest,
        "decisions": [_decision(verdict) for verdict in submission.verdicts],
    }


def _header(header: Header) -> dict[str, object]:
    return {
        "message_id": header.message_id,
        "correlation_id": header.correlation_id,
        "causation_id": header.causation_id,
        "conversation_id": header.conversation_id,
        "type": header.message_type,
        "version": header.schema_version,
        "sender": header.sender,
        "system": header.system,
        "practitioner": _practitioner(header),
        "recipients": [
            {"agency": to.agency_id, "type": to.agency_type, "area": to.area}
            for to in header.recipients
        ],
        "protocol": header.protocol,
        "purpose": header.purpose,
        "gateway": header.gateway,
        "reason_for_access": header.reason_for_access,
        "consents": list(header.consent_refs),
        "decision": header.decision_ref,
        "classification": header.classification,
        "shielded": header.shielded,
        "priority": header.priority,
        "acknowledge": header.acknowledge,
        "created_at": millis(header.created_at),
        "expires_at": _millis_or_none(header.expires_at),
        "respond_by": _millis_or_none(header.respond_by),
    }


def _practitioner(header: Header) -> dict[str, object] | None:
    """Return what a decision asks of the practitioner; the reference names a person."""
    practitioner = header.practitioner
    if practitioner is None:
        return None
    return {
        "role": practitioner.role,
        "clearance": practitioner.clearance,
        "authentication": practitioner.authentication,
    }


def _millis_or_none(instant: datetime | None) -> int | None:
    return None if instant is None else millis(instant)


def _decision(verdict: RecipientVerdict) -> dict[str, object]:
    decision = verdict.decision
    if isinstance(decision, Permitted):
        return {
            "recipient": verdict.recipient,
            "permitted": True,
            "protocol": decision.protocol,
            "version": decision.version,
            "clause": decision.clause,
            "gateway": decision.gateway,
            "consents": list(decision.consents),
            "override": decision.override,
            "withheld": list(verdict.withheld),
            "reduced": _digest_or_none(verdict.reduced),
        }
    return {
        "recipient": verdict.recipient,
        "permitted": False,
        "reason": decision.reason.value,
        "step": decision.step,
        "protocol": decision.protocol,
        "clause": decision.clause,
    }


def _digest_or_none(reduced: bytes | None) -> str | None:
    return None if reduced is None else hashlib.sha256(reduced).hexdigest()


def evidence_entry(
    acknowledgement: Acknowledgement, **facts: str | int | bool | None
) -> dict[str, object]:
    """Return the entry of an acknowledgement of a delivery, or of how the delivery ended.

    ``facts`` are further codes, numbers and digests, such as that of a recipient's receipt.
    """
    reason = acknowledgement.reason
    return {
        "v": VERSION,
        "kind": "evidence",
        "submission": acknowledgement.submission_id,
        "message_id": acknowledgement.message_id,
        "sender": acknowledgement.sender,
        "recipient": acknowledgement.recipient,
        "digest": acknowledgement.message_digest.hex(),
        "level": acknowledgement.level,
        "at": millis(acknowledgement.at),
        "reason": None if reason is None else reason.value,
        "facts": facts,
    }


def operator_entry(
    act: str,
    *,
    operator: str,
    target: str,
    at: datetime,
    **facts: str | int | bool | None,
) -> dict[str, object]:
    """Return the entry of something an operator did; ``act`` and ``facts`` are codes.

    ``operator`` and ``target`` are ids: of an account, a delivery, a message or an agency.
    """
    return {
        "v": VERSION,
        "kind": "operator",
        "act": act,
        "operator": operator,
        "target": target,
        "at": millis(at),
        "facts": facts,
    }


def clock_entry(
    clock_id: str, event: str, *, at: datetime, recorded_at: datetime, **facts: str | int | None
) -> dict[str, object]:
    """Return the entry of a clock that went on: it is due, overdue, escalated, met or met late.

    ``at`` is when that came to be so, ``recorded_at`` when it was seen; ``facts`` are ids.
    """
    return {
        "v": VERSION,
        "kind": "clock",
        "clock": clock_id,
        "event": event,
        "at": millis(at),
        "recorded_at": millis(recorded_at),
        "facts": facts,
    }


def first_fault(rows: Iterable[tuple[int, object, object]]) -> tuple[int, str] | None:
    """Return the number of the first bad row of ``(sequence, leaf, entry)`` and what is wrong.

    The rows come in the order of their numbers. None: from 0 on no number is missing, each
    leaf is the hash of its entry, and each entry is canonical and names its own number.
    What was cut off at the end can only be seen by comparing with an earlier checkpoint.
    """
    for expected, (sequence, leaf, entry) in enumerate(rows):
        if sequence != expected:
            return expected, "the entry of this number is missing"
        if not isinstance(entry, bytes):  # SQLite lets any column hold any type
            return expected, "the entry is not bytes"
        if leaf_hash(entry) != leaf:
            return expected, "the leaf is not the hash of its entry"
        if not _is_canonical(entry, sequence):
            return expected, "the entry is not canonical or names another number"
    return None


def _is_canonical(entry: bytes, sequence: int) -> bool:
    try:
        read = orjson.loads(entry)
        return canonical(read) == entry and read["seq"] == sequence
    except (ValueError, TypeError, KeyError):
        return False

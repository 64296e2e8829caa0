"""How messages and receipts are shown to a person: ids, codes and instants, never content."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker.cli.home import print_rows

LEVELS = {
    "L1": "accepted",
    "L2": "delivered",
    "L3": "read by a person",
    "L4": "dealt with",
}
NOT_DELIVERED = frozenset({"refused", "undeliverable", "expired", "recalled"})
MESSAGE_LINES = (
    "submission_id",
    "message_id",
    "message_type",
    "sender",
    "purpose",
    "priority",
    "correlation_id",
    "created_at",
    "received_at",
    "respond_by",
    "expires_at",
    "ledger_seq",
)


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened to a message: when (RFC 3339), to or by whom, in words."""

    at: str
    who: str
    words: str


def show_receipt(receipt: Mapping[str, Any], *, again: bool) -> None:
    """Print what a receipt says of each recipient."""
    words = "had been accepted before; this is the first receipt" if again else "accepted"
    print(f"{receipt['submission_id']}  {words}, ledger entry {receipt['ledger']['sequence']}")
    print_rows(
        ("recipient", "decision", "because", "withheld"),
        [
            (
                one["recipient"],
                one["decision"].lower(),
                _authority(one) or str(one.get("reason", "")),
                str(len(one.get("withheld", ())) or ""),
            )
            for one in receipt["outcomes"]
        ],
    )
    for warning in receipt["warnings"]:
        print(f"warning: {warning}")


def show_message(view: Mapping[str, Any]) -> None:
    """Print how a message stands with each recipient."""
    for name in MESSAGE_LINES:
        if view.get(name) is not None:
            print(f"{name.replace('_', ' '):15} {view[name]}")
    print()
    print_rows(
        ("recipient", "state", "level", "attempts", "by", "withheld", "reason"),
        [
            (
                one["recipient"],
                one["state"],
                str(one.get("level") or ""),
                str(one.get("attempts") or ""),
                _authority(one),
                str(len(one.get("withheld") or ()) or ""),
                ": ".join(str(one[key]) for key in ("reason", "change") if one.get(key))
                + _doubt(one),
            )
            for one in view["recipients"]
        ],
    )


def timeline(view: Mapping[str, Any], evidence: Sequence[Mapping[str, Any]]) -> list[Step]:
    """Return what happened to a message, oldest first, as far as a party is told."""
    return sorted(_steps(view, evidence), key=lambda step: step.at)


def _doubt(one: Mapping[str, Any]) -> str:
    """Say of a delivery that ended otherwise that the recipient may have the message."""
    if one.get("in_doubt") and one["state"] in NOT_DELIVERED:
        return f"; may have arrived all the same (in doubt: {one['in_doubt']})"
    return ""


def _steps(view: Mapping[str, Any], evidence: Sequence[Mapping[str, Any]]) -> Iterator[Step]:
    sender = str(view["sender"])
    yield Step(view["created_at"], sender, f"made {view['message_type']} for {view['purpose']}")
    received = str(view["received_at"])
    words = f"examined and kept: ledger entry {view['ledger_seq']}"
    yield Step(received, sender, words)
    for one in view["recipients"]:
        yield Step(received, one["recipient"], _decided(one))
        if one.get("next_at"):
            words = f"attempt {one['attempts'] + 1} is due: {one.get('reason') or 'none yet'}"
            yield Step(one["next_at"], one["recipient"], words)
    doubts = {one["recipient"]: _doubt(one) for one in view["recipients"]}
    for piece in evidence:
        level = str(piece["level"])
        words = f"{LEVELS.get(level, level)}: ledger entry {piece['ledger_sequence']}"
        if level in NOT_DELIVERED:
            words += doubts.get(piece["recipient"], "")
        yield Step(piece["at"], piece["recipient"], words)


def _decided(one: Mapping[str, Any]) -> str:
    if one["decision"] == "REFUSED":
        change = f": {one['change']}" if one.get("change") else ""
        return f"refused, {one['reason']} (step {one['step']}){change}"
    withheld = len(one["withheld"])
    fields = f"fields withheld: {withheld}" if withheld else "untouched"
    return f"may have it by {_authority(one)}, {fields}"


def _authority(one: Mapping[str, Any]) -> str:
    return " ".join(str(one[key]) for key in ("protocol", "clause") if one.get(key))

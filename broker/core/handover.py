"""What is sent only once its recipient has taken it: first an offer, an answer, then the thing.

Who is responsible for a child changes when the record is taken, and not when it comes, and the
shield of a record is set before the record is there (domain §2.17, J4). So the answer is kept,
as codes, and the rules ask for it (ISP-3.13).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from broker.core.message import ValidMessage
from broker.core.rule import text_of


@dataclass(frozen=True, slots=True)
class _Handover:
    """Which answer a message follows, by which element both say what it is about, and the yes."""

    answer: str
    number: str
    decision: str
    taken: str
    shielded: str  # the element of what is sent that says that it is shielded
    shield: str  # the element of the answer that says that the shield is set


_HANDOVERS: Mapping[str, _Handover] = {
    "RecordTransfer": _Handover(
        answer="RecordTransferResponse",
        number="TransferId",
        decision="Decision",
        taken="ACCEPTED",
        shielded="Shielded",
        shield="ShieldSet",
    ),
}
_FOLLOWS = {handover.answer: follows for follows, handover in _HANDOVERS.items()}


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered to an offer. ``follows`` is what may be sent when it was a yes.

    ``number`` is a digest of the number of the offer: what an agency writes there is its own.
    """

    follows: str
    number: str
    taken: bool
    shield: bool  # it is set where the answer comes from


@dataclass(frozen=True, slots=True)
class Awaited:
    """What a message waits for: a yes under this number and, if it is ``shielded``, the shield."""

    number: str
    shielded: bool

    def met_by(self, taken: bool, shield: bool) -> bool:  # noqa: FBT001 - two columns of a row
        """Return whether an answer that says so is the one."""
        return taken and (shield or not self.shielded)


def follows_answer(message_type: str) -> bool:
    """Return whether messages of this type are sent only once their recipient has taken them."""
    return message_type in _HANDOVERS


def awaited_by(message: ValidMessage) -> Awaited:
    """Return which answer ``message``, of a type that follows one, waits for."""
    handover = _HANDOVERS[message.header.message_type]
    marked = text_of(message.payload, handover.shielded) == "true"
    return Awaited(_digest(message, handover), message.header.shielded or marked)


def answer_of(message: ValidMessage) -> Answer | None:
    """Return what ``message`` answers to an offer; None: it is no such answer."""
    follows = _FOLLOWS.get(message.header.message_type)
    if follows is None:
        return None
    handover = _HANDOVERS[follows]
    taken = text_of(message.payload, handover.decision) == handover.taken
    shield = text_of(message.payload, handover.shield) == "true"
    return Answer(follows, _digest(message, handover), taken, shield)


def _digest(message: ValidMessage, handover: _Handover) -> str:
    return hashlib.sha256(text_of(message.payload, handover.number).encode()).hexdigest()

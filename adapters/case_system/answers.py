"""From a message to our answer: what this agency's own business is.

Nothing is told of a child beyond what was asked. What we do tell passes the broker under a
clause of its own, which withholds what the agreement does not allow.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from lxml import etree

from adapters.case_system.records import Child, Records
from adapters.case_system.settings import Settings
from adapters.case_system.trust import Message
from broker.core.identity import AgencyId, MessageId
from broker.core.instant import rfc3339
from broker.core.message import Address, Header, Practitioner
from broker.core.samples.tree import Tree, flag, render
from broker.core.signing import build_envelope, sign_envelope

NAMES = uuid.UUID("0b2f9a58-7e0b-5c0e-9f2e-54a1d3c0a7f1")  # ours, for the ids of answers
DESK_PHONE = "0191 498 0999"
FRIDAY = 5


def signed(  # noqa: PLR0913 - what each message of ours says
    settings: Settings,
    message_type: str,
    payload: bytes,
    *,
    to: AgencyId,
    purpose: str,
    now: datetime,
    message_id: uuid.UUID,
    request: Header | None = None,
) -> bytes:
    """Return a message of ours, signed with our own key; an answer names its ``request``."""
    header = Header(
        message_id=MessageId(str(message_id)),
        message_type=message_type,
        schema_version="1.0",
        sender=settings.agency,
        system=settings.system,
        recipients=(Address(agency_id=to),),
        purpose=purpose,
        created_at=now,
        correlation_id=request.message_id if request else None,
        causation_id=request.message_id if request else None,
        conversation_id=request.conversation_id if request else None,
        practitioner=Practitioner("duty", "DUTY_WORKER", "ENHANCED", "AAL2"),
    )
    return sign_envelope(build_envelope(header, payload), settings.signing)


def answer(message: Message, settings: Settings, records: Records, now: datetime) -> bytes | None:
    """Return our signed answer to ``message``, or None: its type asks for none."""
    make = _ANSWERS.get(message.header.message_type)
    if make is None:
        return None
    request = message.header
    name, parts = make(_Asked(message.payload, settings, records, now))
    namespace = etree.QName(message.payload).namespace or ""
    return signed(
        settings,
        name,
        render((name, parts), namespace).encode(),
        to=request.sender,
        purpose=request.purpose,
        now=now,
        # The same request gets the same id for its answer, however often we work it out.
        message_id=uuid.uuid5(NAMES, f"{settings.agency}:{request.sender}:{request.message_id}"),
        request=request,
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request, and what it takes to answer it."""

    payload: etree._Element
    settings: Settings
    records: Records
    now: datetime

    def text(self, *path: str) -> str:
        return self.payload.findtext("/".join(f"{{*}}{name}" for name in path), "")

    def same(self, name: str) -> Tree:
        """Return an element as it was asked, so that both speak of the same."""
        element = self.payload.find(f"{{*}}{name}")
        return (name, "") if element is None else _tree(element)

    @property
    def child(self) -> Child | None:
        return self.records.child(self.text("Subject", "NHSNumber"))

    @property
    def at(self) -> str:
        return rfc3339(self.now)

    def contact(self, name: str, child: Child | None = None) -> Tree:
        worker = (child.worker_given, child.worker_family) if child else ("Duty", "Desk")
        return (
            name,
            [
                ("Name", [("GivenName", worker[0]), ("FamilyName", worker[1])]),
                ("JobTitle", "Allocated worker" if child else "Duty desk"),
                ("Agency", self.settings.name),
                ("AgencyId", self.settings.agency),
                ("Phone", child.worker_phone if child else DESK_PHONE),
            ],
        )


def _check(asked: _Asked) -> tuple[str, list[Tree]]:
    """Answer YOTCheckRequest: item by item what is on file, or why there is nothing."""
    child = asked.child
    reason = (child and child.withheld_because) or "NOT_HELD"
    held: dict[str, Tree] = {}
    if child and not child.withheld_because:
        plan: Tree = ("Plan", [("PlanType", "CIN"), ("StartedOn", child.plan_started)])
        held = {
            "STATUS": ("Status", child.status),
            "WORKER": asked.contact("Worker", child),
            "PLAN_DATES": plan,
        }
    items = [item.text or "" for item in asked.payload.iterfind("{*}ItemsRequested/{*}Item")]
    known: list[Tree] = [("Known", flag(child is not None))] if reason == "NOT_HELD" else []
    return "YOTCheckResponse", [
        asked.same("RequestId"),
        ("RespondedAt", asked.at),
        asked.same("Subject"),
        asked.contact("Responder"),
        *known,
        *(tree for item, tree in held.items() if item in items),
        *(
            ("Refusal", [("Item", item), ("Reason", reason)])
            for item in items
            if item not in held and not (known and item == "KNOWN")
        ),
    ]


def _information(asked: _Asked) -> tuple[str, list[Tree]]:
    """Answer InformationRequest: whether the child is known here, or that we do not say."""
    child = asked.child
    if child and child.withheld_because:
        return "InformationRefusal", [
            asked.same("RequestId"),
            ("RefusedAt", asked.at),
            asked.same("Subject"),
            ("Reason", child.withheld_because),
            asked.contact("AppealContact"),
        ]
    return "InformationResponse", [
        asked.same("RequestId"),
        ("RespondedAt", asked.at),
        asked.same("Subject"),
        asked.contact("Responder"),
        ("Known", flag(child is not None)),
    ]


def _referral(asked: _Asked) -> tuple[str, list[Tree]]:
    """Acknowledge a referral: who has it, and by when it is decided (one working day)."""
    due = asked.now + timedelta(days=1)
    while due.isoweekday() > FRIDAY:
        due += timedelta(days=1)
    return "ReferralAcknowledgement", [
        asked.same("ReferralId"),
        asked.same("Subject"),
        ("ReceivedAt", asked.at),
        ("ReceivingTeam", [("Name", asked.settings.name), ("Phone", DESK_PHONE)]),
        ("DecisionDueBy", rfc3339(due)),
    ]


_ANSWERS: Mapping[str, Callable[[_Asked], tuple[str, list[Tree]]]] = {
    "YOTCheckRequest": _check,
    "InformationRequest": _information,
    "Referral": _referral,
}


def _tree(element: etree._Element) -> Tree:
    children = [_tree(child) for child in element]
    return etree.QName(element).localname, children or element.text or ""

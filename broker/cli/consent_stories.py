"""Two stories of `fame demo`: a consent that is taken back, a decision to share without one."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from lxml import etree

from broker.cli.home import now
from broker.cli.sample import payload_of
from broker.cli.stories import CHILD, Line, Stage, accepted, settled, until
from broker.core.envelope import parse
from broker.edge.ids import new_id

SCHOOL, COUNCIL, BROKER = "hylton-school", "gateshead-csc", "fame-broker"
GATEWAY = "CA04-10"
TOLD = (SCHOOL, COUNCIL)  # the sender and the recipient; the lead, too, where that is another


def consent(stage: Stage) -> Iterator[Line]:
    """A child agrees to early help, and takes that back before anybody has read the referral."""
    refused = _refer(stage).json()["code"]
    yield Line(7, f"{SCHOOL} refers to {COUNCIL}: early help", "refused", refused)
    consent_id, at = new_id(), now()
    said = {
        "ConsentId": consent_id,
        "Recipient": COUNCIL,
        "GivenAt": _instant(at - timedelta(hours=1)),
        "Assessment/AssessedAt": _instant(at - timedelta(hours=1)),
        "ReviewAt": _instant(at + timedelta(days=180)),
    }
    _tell(stage, "ConsentRecorded", said)
    yield Line(7, "  the child agrees, and it tells the broker so", "on record", "ConsentRecorded")
    body = accepted(_refer(stage))
    state = settled(stage, SCHOOL, body, COUNCIL)
    yield Line(7, f"  {SCHOOL} refers again", state, "by that consent")

    _tell(stage, "ConsentWithdrawn", {"ConsentId": consent_id, "WithdrawnAt": _instant(now())})

    def waiting() -> Mapping[str, Any]:
        return stage.recipient(SCHOOL, str(body["receipt"]["submission_id"]), COUNCIL)

    until(lambda: waiting()["state"] == "refused", "for the withdrawal to count")
    what = "  the child takes it back before it is read"
    yield Line(7, what, "stopped", str(waiting()["reason"]))


def override(stage: Stage) -> Iterator[Line]:
    """The child is in danger, and two practitioners decide to share without consent."""
    decision = new_id()
    made_at = _instant(now() - timedelta(seconds=1))
    said = {"DecisionId": decision, "Recipient": COUNCIL, "MadeAt": made_at}
    _tell(stage, "DisclosureDecision", said)
    what = "the child is hurt: two of the school decide to share"
    yield Line(8, what, "on record", "DisclosureDecision")
    body = accepted(_refer(stage, decision))
    state = settled(stage, SCHOOL, body, COUNCIL)
    yield Line(8, f"  {SCHOOL} refers, naming that decision", state, "without consent, by two")
    until(lambda: len(_told(stage)) == len(TOLD), "for the notices of the decision")
    yield Line(8, f"  {' and '.join(TOLD)} are told at once", "delivered", "OverrideNotice")
    found = stage.get(SCHOOL, f"/overrides?agency={SCHOOL}")["overrides"]
    due = next(one for one in found if one["override_id"] == decision)
    yield Line(8, "  a third person has to review it", "due", f"by {due['review_by'][:10]}")


def _told(stage: Stage) -> list[str]:
    """Return in whose mailbox a notice of the decision lies."""
    return [
        agency
        for agency in TOLD
        if any(one["message_type"] == "OverrideNotice" for one in stage.mailbox(agency))
    ]


def _refer(stage: Stage, decision: str | None = None) -> Any:  # noqa: ANN401 - the answer
    header = stage.header("Referral", SCHOOL, [COUNCIL], "EH")
    if decision is not None:
        header = replace(header, decision_ref=decision, gateway=GATEWAY)
    return stage.send(SCHOOL, stage.sign(header, payload_of("Referral", CHILD)))


def _tell(stage: Stage, kind: str, said: Mapping[str, str]) -> None:
    """Have the school tell the broker in a signed message what was said or decided."""
    root = parse(payload_of(kind, CHILD))
    for path, text in said.items():
        found = root.find("/".join(f"{{*}}{name}" for name in path.split("/")))
        if found is not None:
            found.text = text
    header = stage.header(kind, SCHOOL, [BROKER], "CONSENT")
    accepted(stage.send(SCHOOL, stage.sign(header, etree.tostring(root))))


def _instant(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds")

"""The smallest lawful change that would let a refused message pass, in words.

Nothing here comes from a payload: only the names of agencies, agreements and codes, which are
no secret between the parties of a partnership.
"""

from collections.abc import Collection, Sequence

from broker.core.gateway import Gateway
from broker.core.protocol import Clause
from broker.core.reasons import Reason
from broker.core.sharing import PractitionerRule, SharingProtocol

RECIPIENT_UNKNOWN = "address an agency of the partnership, by its id"
NOT_TAKEN = (
    "offer it first, and send it once the recipient has answered, about the same person and under "
    "the same number, that it takes it (and, of a shielded record, that the shield is set)"
)
DETRIMENTAL = "none while the sender judges disclosure more detrimental to the child"
DETRIMENT_NOT_STATED = "state the outcome of the detriment test (SharingBasis/DetrimentTest)"
RELEVANCE_NOT_STATED = (
    "state that a practitioner considered it relevant to safeguarding or welfare "
    "(SharingBasis/RelevanceConsidered: true), as the duty of s.16LA asks"
)
PUBLIC_TASK = (
    "state for which public task, under which law, you ask (PublicTaskStatement), as UK GDPR "
    "Annex 1 para. 1 asks"
)
CONSENT_REASON = (
    "state why consent was not obtained (SharingBasis/ConsentNotObtained: CANNOT_GIVE, "
    "NOT_REASONABLE or WOULD_PREJUDICE), as DPA 2018 Sch. 1 para. 18 asks"
)
IDENTIFIER = "give the child's NHS number, or an OmissionReason of s.16LC(6) to (8)"
IDENTIFIER_SOON = (
    "neither NHS number nor OmissionReason: refused once Children Act 2004 s.16LC is in force"
)
SHIELDED = "speak to the recipient: this message has no meaning without a place, which is shielded"
UNPLACED = (
    "no address or place is shown, since the person is shielded; where the law asks for one, "
    "give it to a named person another way"
)
INFORMED = "rests on the person having been informed of this use"
OVERRIDDEN = "passed without consent, by a recorded decision; it is to be reviewed"
PARTLY = "the person agreed to some of it only, or not to some of it; the rest is withheld"
HARM = "passed without consent, on the ground of harm; the sensitive service answers for it"

_STANDING = {
    Reason.ISP_SUSPENDED: "lifts the suspension of",
    Reason.ISP_NOT_ACTIVE: "brings into force",
    Reason.ISP_EXPIRED: "reviews and renews",
}


def suspended(agency: str) -> str:
    """Return what helps when ``agency`` is not active."""
    return f"wait until the registrar has {agency} active again"


def direction(sender: str, recipient: str, message_type: str) -> str:
    """Return what helps when only the other direction is agreed."""
    return (
        f"only {recipient} may send {message_type} to {sender}: "
        f"agree a flow from {sender} to {recipient}"
    )


def message_type(wanted: str, types: Collection[str]) -> str:
    """Return what helps when other types are agreed in this direction."""
    return f"send one of {_list(types)}; or agree a flow for {wanted}"


def no_protocol(sender: str, recipient: str, message_type: str, reachable: Sequence[str]) -> str:
    """Return what helps when nothing is agreed in this direction."""
    agree = f"agree a sharing protocol in which {sender} sends {message_type} to {recipient}"
    if not reachable:
        return agree
    return f"send it to {_list(reachable, 'or')}, as agreed; or {agree}"


def named(reference: str) -> str:
    """Return what helps when the message names another sharing protocol."""
    return f"name {reference} in Protocol, or leave Protocol out"


def purpose(clauses: Sequence[Clause]) -> str:
    """Return what helps when the purpose is not covered."""
    covered = {code for clause in clauses for code in clause.purposes}
    return f"name purpose {_list(covered, 'or')}, if that is what it is for"


def version(clause: Clause) -> str:
    """Return what helps when the schema version is not covered."""
    return f"send {clause.message_type} in version {_list(clause.versions, 'or')}"


def standing(protocol: SharingProtocol, reason: Reason) -> str:
    """Return what helps when ``protocol`` is not in force."""
    return f"none until {protocol.lead} {_STANDING[reason]} {protocol.reference}"


def gateways(clause: Clause) -> str:
    """Return what helps when the message names a gateway that the clause does not."""
    return f"name gateway {_list([one.gateway_id for one in clause.gateways], 'or')}, or none"


def not_effective(gateway: Gateway, clause: Clause) -> str:
    """Return what helps when ``gateway`` is not in force."""
    others = [one.gateway_id for one in clause.gateways if one is not gateway]
    if not others:
        return f"none while {gateway.gateway_id} ({gateway.statute}) is not in force"
    return f"rely on {_list(others, 'or')}: {gateway.gateway_id} is not in force"


def parties(gateway: Gateway, reason: Reason) -> str:
    """Return what helps when ``gateway`` does not reach the agencies or the purpose."""
    if reason is Reason.RECIPIENT_NOT_RELEVANT_AUTHORITY:
        return "send to a relevant authority, or register for which one the recipient acts"
    return f"rely on another gateway: {gateway.gateway_id} does not reach so far"


def practitioner(rule: PractitionerRule) -> str:
    """Return what the message must say of the person behind it."""
    wanted = ["name the practitioner"]
    if rule.roles:
        wanted.append(f"in role {_list(rule.roles, 'or')}")
    if rule.clearances:
        wanted.append(f"with clearance {_list(rule.clearances, 'or')}")
    if rule.authentication:
        wanted.append(f"authenticated at {rule.authentication} or better")
    if rule.reason_for_access:
        wanted.append("and give ReasonForAccess")
    return ", ".join(wanted)


def consent(reason: Reason, model: str, kind: str) -> str:
    """Return what helps when consent of ``kind`` does not carry the disclosure."""
    if reason in (Reason.CONSENT_REFUSED, Reason.CONSENT_WITHDRAWN):
        change = "none by asking again: the person has answered"
    elif reason is Reason.CONSENT_SCOPE:
        change = f"record consent that names this purpose, message type and recipient, as {kind}"
    else:
        words = "record the person's consent to this purpose, message type and recipient"
        change = f"{words}, as {kind}"
    if model == "EXPLICIT_OR_HARM":
        change += "; or state the ground of harm (SharingBasis), if there is one"
    return change


def incomplete(missing: Sequence[str]) -> str:
    """Return which mandatory items to add."""
    return f"add {_list(missing)}"


def overdue(protocol: SharingProtocol) -> str:
    """Return the warning on a sharing protocol past its review date."""
    return f"{protocol.reference} is overdue for review by {protocol.lead}"


def _list(names: Collection[str], joint: str = "and") -> str:
    *most, last = sorted(names)
    return f"{', '.join(most)} {joint} {last}" if most else last

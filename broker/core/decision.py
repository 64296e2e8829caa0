"""Decide whether one message may pass to one recipient: the ten steps of protocols/RULES.md.

A decision is a function of its arguments alone: the edge gathers the facts first, so that any
past decision can be made again. Nothing passes unless a clause permits it. Where several
clauses reach a message, the first that permits it is relied on; if none does, the refusal
names the one that came furthest. No refusal says whether a person or a service exists.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime

from broker.core import remedy
from broker.core.consent import WHOLE, Consent, Disclosure, Reach, consent_reach, relied_on
from broker.core.facts import (
    GIVEN,
    Categories,
    DecisionFacts,
    facts_of,
    with_categories,
    with_paths,
)
from broker.core.gateway import Gateway
from broker.core.handover import follows_answer
from broker.core.identity import AgencyId
from broker.core.message import ValidMessage
from broker.core.outcome import Decision, Permitted, Refused
from broker.core.override import Override
from broker.core.protocol import Clause, Register
from broker.core.reasons import Reason
from broker.core.sharing import AUTHENTICATION, EXPLICIT_MODELS

IDENTIFIER_GATEWAY = "CA04-16LC"
TOO_EARLY = "NOT_YET_COMMENCED"  # a reason for leaving the identifier out, until it is no more
_NOTHING: frozenset[str] = frozenset()


def decide(  # noqa: PLR0913 - everything that a decision is made from
    message: ValidMessage,
    recipient: AgencyId,
    register: Register,
    consents: Collection[Consent],
    now: datetime,
    *,
    schemas: Categories | None = None,
    override: Override | None = None,
    taken: bool = False,
) -> Decision:
    """Return whether ``message`` may pass to ``recipient`` and, if so, on what authority.

    ``consents`` is every consent on record about the subject. ``now`` is aware and was read
    after the register and the consents. ``schemas`` tells which data categories the payload
    holds, for the gateways that carve some out; without it, it may hold any. ``override`` is a
    decision of the sender to share about this subject without consent (`override_for`).
    ``taken``: the recipient has said that it takes what this brings (`core.handover`).
    """
    facts = facts_of(message)
    clauses = register.clauses(facts.sender, recipient, facts.message_type)
    mandatory = {path for clause in clauses for path in clause.mandatory}
    if mandatory:
        facts = with_paths(facts, message, mandatory)
    if not taken and follows_answer(facts.message_type):
        facts = replace(facts, untaken=True)
    if schemas is not None and any(clause.asks_categories for clause in clauses):
        facts = with_categories(facts, message, schemas)
    return decide_facts(facts, recipient, register, consents, now, override=override)


def asks_consent(
    register: Register, sender: AgencyId, recipient: AgencyId, kind: str, purpose: str
) -> bool:
    """Return whether a clause for this direction, ``kind`` and ``purpose`` rests on consent.

    Where none does, the register of consents is not asked: it would change no decision, and how
    long it takes would tell the sender that something is on record about the person.
    """
    clauses = register.clauses(sender, recipient, kind)
    return any(clause.asks_consent and purpose in clause.purposes for clause in clauses)


def decide_facts(  # noqa: PLR0913 - everything that a decision is made from
    facts: DecisionFacts,
    recipient: AgencyId,
    register: Register,
    consents: Collection[Consent],
    now: datetime,
    *,
    override: Override | None = None,
) -> Decision:
    """Return the decision on a message of which only these facts are known.

    So a decision can be asked again at the moment of disclosure, and asked of a message that
    nobody has sent.
    """
    # step 1: both agencies take part, now. The signature was verified before.
    refusal = _membership(facts.sender, recipient, register)
    if refusal is not None:
        return refusal
    # step 2, ISP-2.1: the payload follows its schema; having these facts proves it.
    asked = _Asked(facts, recipient, register, consents, now, override)
    furthest = -1
    # step 3, ISP-3.10: the first clause that permits; or else the refusal that came furthest.
    for clause in register.clauses(facts.sender, recipient, facts.message_type):
        rank, decision = _judge(clause, asked)
        if isinstance(decision, Permitted):
            return decision
        if rank > furthest:
            furthest, refusal = rank, decision
    return refusal or _no_clause(facts, recipient, register)


@dataclass(slots=True)  # not frozen: that would cost as much as a step
class _Asked:
    """The question, in one piece."""

    facts: DecisionFacts
    recipient: AgencyId
    register: Register
    consents: Collection[Consent]
    now: datetime
    override: Override | None = None
    gateway: Gateway | None = None  # that carries the clause being judged


def _judge(clause: Clause, asked: _Asked) -> tuple[int, Decision]:
    """Return the decision under one clause, and how many checks it came through."""
    for rank, check in enumerate(_BEFORE_GATEWAY):
        refusal = check(clause, asked)
        if refusal is not None:
            return rank, refusal
    passed = len(_BEFORE_GATEWAY)
    gateway = _gateway(clause, asked)
    if isinstance(gateway, Refused):
        return passed, gateway
    asked.gateway = gateway
    for rank, check in enumerate(_AFTER_GATEWAY, passed + 1):
        refusal = check(clause, asked)
        if refusal is not None:
            return rank, refusal
    # step 10, ISP-10.1: permitted, on the authority of this clause and this gateway.
    permitted = clause.permitted[gateway.gateway_id]
    warnings, consents = _warnings(clause, asked), _relied_on(clause, asked)
    override, reach = _overridden(clause, asked), _reach(clause, asked)
    if override is not None:
        warnings = (*warnings, remedy.OVERRIDDEN)
    if warnings or consents or asked.facts.shielded or not reach.whole:
        permitted = replace(
            permitted,
            warnings=warnings,
            # step 8, ISP-8.1: a shielded person is not located.
            strip_location=asked.facts.shielded,
            consents=consents,
            override=override,
            reach=reach,
        )
    return passed + len(_AFTER_GATEWAY) + 1, permitted


def _membership(sender: AgencyId, recipient: AgencyId, register: Register) -> Refused | None:
    # step 1, ISP-1.1: registered, and active.
    active = register.active
    if sender in active and recipient in active:
        return None
    if recipient not in register.agencies:
        return Refused(Reason.RECIPIENT_UNKNOWN, 1, remedy.RECIPIENT_UNKNOWN)
    stopped = sender if sender not in active else recipient
    return Refused(Reason.AGENCY_SUSPENDED, 1, remedy.suspended(stopped))


def _no_clause(facts: DecisionFacts, recipient: AgencyId, register: Register) -> Refused:
    """Say what is missing between the two agencies: everything, the direction or the type."""
    sender, message_type = facts.sender, facts.message_type
    # step 3, ISP-3.1: A to B says nothing about B to A.
    if register.clauses(recipient, sender, message_type):
        return Refused(Reason.DIRECTION, 3, remedy.direction(sender, recipient, message_type))
    types = register.types_between.get((sender, recipient))
    if types:
        return Refused(Reason.TYPE_NOT_COVERED, 3, remedy.message_type(message_type, types))
    reachable = register.reach.get((sender, message_type), ())
    return Refused(Reason.NO_ISP, 3, remedy.no_protocol(sender, recipient, message_type, reachable))


def _refused(reason: Reason, step: int, change: str, clause: Clause) -> Refused:
    return Refused(reason, step, change, clause.protocol.reference, clause.clause_id)


def _named(clause: Clause, asked: _Asked) -> Refused | None:
    # step 3, ISP-3.2: a message may name the sharing protocol it relies on, and then no other does.
    named = asked.facts.protocol
    if named is None or named in (clause.protocol.protocol_id, clause.protocol.reference):
        return None
    return _refused(Reason.NO_ISP, 3, remedy.named(clause.protocol.reference), clause)


def _purpose(clause: Clause, asked: _Asked) -> Refused | None:
    # step 3, ISP-3.3: purposes match exactly; a wider one does not contain a narrower one.
    if asked.facts.purpose in clause.purposes:
        return None
    facts = asked.facts
    others = asked.register.clauses(facts.sender, asked.recipient, facts.message_type)
    return _refused(Reason.PURPOSE_NOT_COVERED, 3, remedy.purpose(others), clause)


def _version(clause: Clause, asked: _Asked) -> Refused | None:
    # step 3, ISP-3.4: a flow names the versions of a message type that were looked at.
    if asked.facts.schema_version in clause.versions:
        return None
    return _refused(Reason.TYPE_NOT_COVERED, 3, remedy.version(clause), clause)


def _standing(clause: Clause, asked: _Asked) -> Refused | None:
    # step 3, ISP-3.5 to ISP-3.8: it is in force; ISP-3.9: and so is every one it stands on.
    if clause.stands_from <= asked.now < clause.stands_until:
        return None
    stopped = ((one, one.standing(asked.now)) for one in clause.chain)
    protocol, reason = next((one, reason) for one, reason in stopped if reason is not None)
    return _refused(reason, 3, remedy.standing(protocol, reason), clause)


def _taken(clause: Clause, asked: _Asked) -> Refused | None:
    # step 3, ISP-3.13: what is offered first is sent to whoever has taken it.
    if asked.facts.untaken:
        return _refused(Reason.NOT_TAKEN, 3, remedy.NOT_TAKEN, clause)
    return None


def _gateway(clause: Clause, asked: _Asked) -> Gateway | Refused:
    """Return the first gateway that carries the disclosure, or why the best one does not."""
    facts = asked.facts
    # step 4, ISP-4.5: who judges disclosure more detrimental to the child must not disclose.
    if facts.detriment == "DETRIMENTAL":
        return _refused(Reason.DETRIMENTAL, 4, remedy.DETRIMENTAL, clause)
    # step 4, ISP-4.1: of those the clause names; a message may narrow that to one.
    refusal = None
    furthest = -1
    for gateway in clause.gateways:
        if facts.gateway is not None and facts.gateway != gateway.gateway_id:
            continue
        rank, reason, change = _carries(gateway, clause, asked)
        if reason is None:
            return gateway
        if rank > furthest:
            furthest, refusal = rank, _refused(reason, 4, change, clause)
    return refusal or _refused(Reason.GATEWAY_PARTIES, 4, remedy.gateways(clause), clause)


def _carries(gateway: Gateway, clause: Clause, asked: _Asked) -> tuple[int, Reason | None, str]:
    """Return how far ``gateway`` carries the disclosure, why no further, and what would help."""
    facts, register = asked.facts, asked.register
    # step 4, ISP-4.2: a power is there from its first day, up to and including its last.
    if not gateway.in_force(asked.now):
        return 0, Reason.GATEWAY_NOT_EFFECTIVE, remedy.not_effective(gateway, clause)
    # step 4, ISP-4.3: the statute names who may disclose, to whom, and for what.
    sender, recipient = register.selectors[facts.sender], register.selectors[asked.recipient]
    reason = gateway.parties_refusal(sender, recipient)
    if reason is None and not gateway.serves(facts.purpose):
        reason = Reason.GATEWAY_PARTIES
    if reason is not None:
        return 1, reason, remedy.parties(gateway, reason)
    # step 4, ISP-4.4: and what it leaves out.
    if gateway.detriment_test and facts.detriment is None and not facts.settled:
        return 2, Reason.GATEWAY_CARVEOUT, remedy.DETRIMENT_NOT_STATED
    if gateway.relevance_test and not (facts.relevant or facts.settled):
        return 2, Reason.GATEWAY_CARVEOUT, remedy.RELEVANCE_NOT_STATED
    content = _NOTHING if facts.settled else facts.categories
    carve_out = gateway.carved_out(sender, recipient, content)
    if carve_out is not None:
        return 2, carve_out.reason, carve_out.text
    return 3, None, ""


def _beside(clause: Clause, asked: _Asked) -> Refused | None:
    """Return why a lawful basis or condition that the flow needs as well does not hold."""
    for basis in clause.beside:
        held = asked.register.selectors
        if not basis.meant_for(held[asked.facts.sender], held[asked.recipient]):
            continue
        # step 4, ISP-4.6: it too has its days.
        if not basis.in_force(asked.now):
            change = remedy.not_effective(basis, clause)
            return _refused(Reason.GATEWAY_NOT_EFFECTIVE, 4, change, clause)
        # step 4, ISP-4.7: who answers because a public task asks must be told of the task.
        if basis.asks_public_task and not (asked.facts.public_task or asked.facts.settled):
            return _refused(Reason.PUBLIC_TASK_NOT_STATED, 4, remedy.PUBLIC_TASK, clause)
    return None


def _practitioner(clause: Clause, asked: _Asked) -> Refused | None:
    rule, facts = clause.practitioner, asked.facts
    if rule is None or facts.settled:
        return None
    # step 5, ISP-5.1: the person is named; ISP-5.2: in a role, cleared and signed in well enough.
    person = facts.practitioner
    good = (
        person is not None
        and (not rule.roles or person.role in rule.roles)
        and (not rule.clearances or person.clearance in rule.clearances)
        and _as_strong(person.authentication, rule.authentication)
        # step 5, ISP-5.3: and says why they look.
        and (facts.reason_for_access is not None or not rule.reason_for_access)
    )
    return None if good else _refused(Reason.PRACTITIONER, 5, remedy.practitioner(rule), clause)


def _as_strong(level: str | None, least: str) -> bool:
    return not least or (level is not None and level in AUTHENTICATION and level >= least)


def _consent(clause: Clause, asked: _Asked) -> Refused | None:
    facts, model = asked.facts, _model(clause, asked.facts)
    if model in EXPLICIT_MODELS:
        return _explicit_consent(clause, asked, model)
    # step 6, ISP-6.1: otherwise consent is not asked, but for paragraph 18:
    # step 6, ISP-6.5: paragraph 18 is for when consent was not to be had, and the message says why.
    said = facts.settled or facts.consent_said or facts.consent_reason is not None
    if clause.asks_consent_reason and not said:
        return _refused(Reason.NO_CONSENT, 6, remedy.CONSENT_REASON, clause)
    return None


def _model(clause: Clause, facts: DecisionFacts) -> str:
    return clause.sensitive_consent if facts.sensitive else clause.consent


def _explicit_consent(clause: Clause, asked: _Asked, model: str) -> Refused | None:
    facts = asked.facts
    # step 6, ISP-6.3: consent is active, in scope, and names the recipient.
    reason = _consent_answer(clause, asked)
    if isinstance(reason, Reach):
        return None
    # step 6, ISP-6.4: a sensitive service answers without consent only to prevent harm. Of a
    # message permitted before, it is not known which of the two it was.
    if model == "EXPLICIT_OR_HARM":
        unknown = facts.settled and reason in (Reason.NO_CONSENT, Reason.CONSENT_SCOPE)
        if facts.harm or unknown:
            return None
    # step 6, ISP-6.6: a recorded decision to share without consent answers this, and only this.
    if _carried(asked):
        return None
    return _refused(reason, 6, remedy.consent(reason, model, clause.consent_kind), clause)


def _consent_answer(clause: Clause, asked: _Asked) -> Reach | Reason:
    """Return how far consent carries the disclosure; of a past decision, what was found then."""
    facts, kind = asked.facts, clause.consent_kind
    if facts.consent_answers is None:
        return consent_reach(asked.consents, _disclosure(clause, asked), asked.now)
    answer = facts.consent_answers[kind]
    return (facts.consent_reach or {}).get(kind, WHOLE) if answer == GIVEN else Reason(answer)


def _reach(clause: Clause, asked: _Asked) -> Reach:
    """Return how much of the message may be told, where that rests on consent."""
    model = _model(clause, asked.facts)
    if model not in EXPLICIT_MODELS:
        return WHOLE
    answer = _consent_answer(clause, asked)
    # step 6, ISP-6.7: consent to some categories of data lets these pass. What opens the door
    # without consent (a ground of harm, a decision to share without it) opens it for the rest.
    if isinstance(answer, Reason) or _carried(asked):
        return WHOLE
    return WHOLE if model == "EXPLICIT_OR_HARM" and asked.facts.harm else answer


def _disclosure(clause: Clause, asked: _Asked) -> Disclosure:
    facts = asked.facts
    return Disclosure(clause.consent_kind, facts.purpose, facts.message_type, asked.recipient)


def _carried(asked: _Asked) -> bool:
    facts, override = asked.facts, asked.override
    if override is None or asked.gateway is None:
        return False
    return override.carries(
        sender=facts.sender,
        recipient=asked.recipient,
        purpose=facts.purpose,
        message_type=facts.message_type,
        gateway=asked.gateway,
        now=asked.now,
    )


def _overridden(clause: Clause, asked: _Asked) -> str | None:
    """Return the decision by which the message passes; None: it passes without one."""
    if asked.override is None or not _carried(asked):
        return None
    without = replace(asked, override=None)
    enough = _consent(clause, without) is None and _reach(clause, without).whole
    return None if enough else asked.override.override_id


def _relied_on(clause: Clause, asked: _Asked) -> tuple[str, ...]:
    """Return the consents that carry the disclosure, where the clause rests on consent."""
    if not asked.consents or _model(clause, asked.facts) not in EXPLICIT_MODELS:
        return ()
    return relied_on(asked.consents, _disclosure(clause, asked), asked.now)


def _identifier(clause: Clause, asked: _Asked) -> Refused | None:
    # step 7, ISP-7.1: the child's identifier, or why it is left out, once s.16LC is in force.
    if (_identifier_lacking(asked) or _identifier_late(asked)) and _identifier_rule_in_force(asked):
        return _refused(Reason.IDENTIFIER_MISSING, 7, remedy.IDENTIFIER, clause)
    return None


def _identifier_lacking(asked: _Asked) -> bool:
    facts = asked.facts
    told = facts.has_identifier or facts.omission_reason or facts.settled
    return not told and _about_child(asked)


def _identifier_late(asked: _Asked) -> bool:
    """Return whether the identifier is left out for a reason that holds before commencement only.

    The section itself knows three reasons, of subsections (6) to (8).
    """
    facts = asked.facts
    late = facts.omission_reason == TOO_EARLY and not (facts.has_identifier or facts.settled)
    return late and _about_child(asked)


def _about_child(asked: _Asked) -> bool:
    purpose = asked.register.purposes.get(asked.facts.purpose)
    return asked.facts.has_subject and purpose is not None and purpose.child


def _identifier_rule_in_force(asked: _Asked) -> bool:
    rule = asked.register.gateways.get(IDENTIFIER_GATEWAY)
    return rule is not None and rule.in_force(asked.now)


def _shielded(clause: Clause, asked: _Asked) -> Refused | None:
    # step 8, ISP-8.2: some messages have no meaning without the place.
    if asked.facts.shielded and clause.refuses_shielded:
        return _refused(Reason.SHIELDED, 8, remedy.SHIELDED, clause)
    return None


def _complete(clause: Clause, asked: _Asked) -> Refused | None:
    # step 9, ISP-9.4: what the recipient cannot work without is there.
    paths = asked.facts.paths
    missing = [path for path in clause.mandatory if paths is not None and path not in paths]
    if missing:
        return _refused(Reason.INCOMPLETE, 9, remedy.incomplete(missing), clause)
    return None


def _warnings(clause: Clause, asked: _Asked) -> tuple[str, ...]:
    """Return what should be known although the message passes."""
    warnings = []
    if asked.now >= clause.overdue_from:  # step 3, ISP-3.7
        warnings = [remedy.overdue(one) for one in clause.chain if asked.now >= one.overdue_from]
    model = _model(clause, asked.facts)
    if model == "INFORMED_ONLY":  # step 6, ISP-6.2
        warnings.append(remedy.INFORMED)
    if not _reach(clause, asked).whole:  # step 6, ISP-6.7
        warnings.append(remedy.PARTLY)
    if model == "EXPLICIT_OR_HARM" and asked.facts.harm:  # step 6, ISP-6.4
        warnings.append(remedy.HARM)
    if asked.facts.shielded:  # step 8, ISP-8.1
        warnings.append(remedy.UNPLACED)
    if _identifier_lacking(asked):  # step 7, ISP-7.2: before commencement, a warning
        warnings.append(remedy.IDENTIFIER_SOON)
    return tuple(warnings)


_Check = Callable[[Clause, _Asked], Refused | None]
_BEFORE_GATEWAY: tuple[_Check, ...] = (_named, _purpose, _version, _standing, _taken)
_AFTER_GATEWAY: tuple[_Check, ...] = (
    _beside, _practitioner, _consent, _identifier, _shielded, _complete,
)  # fmt: skip

"""The decision agrees with a second opinion that was written from the rule book alone.

`FAME_ORACLE_CASES` asks for more cases than the few thousand of every run (`make oracle`).
"""

import os
from collections import Counter
from dataclasses import replace

import pytest

from broker.core import remedy
from broker.core.assembly import build_register
from broker.core.consent import Disclosure, consent_refusal
from broker.core.decision import decide, decide_facts
from broker.core.identity import AgencyId
from broker.core.outcome import Decision, Permitted
from broker.core.protocol import Register
from tests.unit.oracle import Oracle, Said, Verdict, consent_trouble
from tests.unit.oracle_cases import ELEMENTS, Case, as_facts, as_message, cases
from tests.unit.policy_world import CONSENT, CSC, NOW

CASES = int(os.environ.get("FAME_ORACLE_CASES", "4000"))  # noqa: TID251 - a knob of the tests
EACH = 40  # questions to one partnership
PARTS = 8  # so that a failure stops early, and names its part
WORDS = {
    remedy.INFORMED: "informed",
    remedy.HARM: "harm",
    remedy.IDENTIFIER_SOON: "identifier",
    remedy.PARTLY: "partly",
    remedy.OVERRIDDEN: "overridden",
    remedy.UNPLACED: "unplaced",
}


class Schemas:
    """The data items of the generated payloads."""

    def categories(self, message_type: str, version: str) -> dict[str, str]:
        assert message_type
        assert version
        return ELEMENTS


def decided(case: Case, register: Register) -> Verdict:
    """Return the broker's decision, in the words of the oracle."""
    said, recipient = case.said, AgencyId(case.said.recipient)
    if said.again:
        decision: Decision = decide_facts(
            as_facts(said), recipient, register, case.consents, case.now, override=case.override
        )
    else:
        decision = decide(
            as_message(said),
            recipient,
            register,
            case.consents,
            case.now,
            schemas=Schemas(),
            override=case.override,
            taken=said.taken,
        )
    if isinstance(decision, Permitted):
        return Verdict(
            permitted=True,
            protocol=f"{decision.protocol}@{decision.version}",
            clause=decision.clause,
            gateway=decision.gateway,
            strip_location=decision.strip_location,
            warnings=tuple(WORDS.get(text, "overdue") for text in decision.warnings),
            overridden=decision.override is not None,
            untold=frozenset(one for one in ELEMENTS.values() if not decision.reach.covers(one)),
        )
    return Verdict(
        permitted=False,
        reason=decision.reason.name,
        step=decision.step,
        protocol=decision.protocol,
        clause=decision.clause,
    )


def compare(seeds: range) -> Counter[str]:
    """Return how often each outcome was met; fail at the first difference."""
    met: Counter[str] = Counter()
    for seed in seeds:
        register = None
        for case in cases(seed, EACH):
            if register is None:
                register = build_register(case.tables, {}, {})
                second = Oracle(case.tables, ELEMENTS)
            found = decided(case, register)
            expected = second.opinion(case.said, case.consents, case.now, case.override)
            where = f"seed {case.seed}, case {case.number}, {case.now}, {case.said}"
            assert found == expected, where
            met[found.reason or _kind(found)] += 1
            met["LOCAL"] += "-local@" in (found.protocol or "")
    return met


def _kind(found: Verdict) -> str:
    if found.overridden:
        return "OVERRIDDEN"
    return "PARTLY" if found.untold else "PERMITTED"


@pytest.mark.parametrize("part", range(PARTS))
def test_the_decision_agrees_with_the_second_opinion(part: int) -> None:
    seeds = range(CASES // EACH)
    share = len(seeds) // PARTS

    met = compare(seeds[part * share : (part + 1) * share])

    assert met["PERMITTED"] > share  # the cases are not all refused for one thing


def test_who_refused_a_service_did_not_refuse_that_information_is_shared() -> None:
    """Once the two opinions differed here: the decision had let kinds of consent be mixed."""
    yes = replace(CONSENT, purposes=frozenset({"YJ"}))
    no = replace(CONSENT, consent_id="c-2", kind="SERVICE_AGREEMENT", status="REFUSED")
    said = Said(sender="yot", recipient="csc")

    assert consent_trouble(said, (yes, no), NOW) is None
    disclosure = Disclosure("GDPR_BASIS", "YJ", "Check", CSC)
    assert consent_refusal((yes, no), disclosure, NOW) is None


def test_the_generated_cases_meet_every_reason_there_is() -> None:
    met = compare(range(10_000, 10_000 + 150))

    assert set(+met) == {
        "PERMITTED", "RECIPIENT_UNKNOWN", "AGENCY_SUSPENDED", "NO_ISP", "DIRECTION",
        "TYPE_NOT_COVERED", "PURPOSE_NOT_COVERED", "ISP_NOT_ACTIVE", "ISP_EXPIRED",
        "ISP_SUSPENDED", "GATEWAY_NOT_EFFECTIVE", "GATEWAY_PARTIES", "GATEWAY_CARVEOUT",
        "RECIPIENT_NOT_RELEVANT_AUTHORITY", "DETRIMENTAL", "PRACTITIONER", "NO_CONSENT",
        "CONSENT_REFUSED", "CONSENT_WITHDRAWN", "CONSENT_SCOPE", "IDENTIFIER_MISSING",
        "PUBLIC_TASK_NOT_STATED", "SHIELDED", "INCOMPLETE",
        "NOT_TAKEN", "PARTLY", "OVERRIDDEN", "LOCAL",
    }  # fmt: skip

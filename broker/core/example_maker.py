"""Make examples for an agreement: of every clause what passes, and the ways in which it does not.

What is expected is what the broker decides now. People read it, and from then on it holds: a
change of the agreement that changes a decision shows.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from broker.core.clause import Clause
from broker.core.consent import GDPR_BASIS, GROUNDS
from broker.core.coverage import rules_touched
from broker.core.examples import PERMITTED, Example, Expectation, Schemas, run_example
from broker.core.handover import follows_answer
from broker.core.identity import AgencyId
from broker.core.instant import rfc3339
from broker.core.message import Practitioner
from broker.core.protocol import Register
from broker.core.sharing import EXPLICIT_MODELS, Flow, PractitionerRule, SharingProtocol

SEEDS = range(1, 41)  # tried until every rule on an item is met
_OPEN = PractitionerRule()


def make_examples(
    protocol: SharingProtocol, register: Register, schemas: Schemas, at: datetime
) -> tuple[Example, ...]:
    """Return examples for every clause of ``protocol``, with what becomes of them at ``at``."""
    made: list[Example] = []
    for flow in protocol.flows:
        first: Example | None = None
        for version in flow.message_types:
            passing = list(
                _passing(_start(flow, version, protocol, register, at), flow, register, schemas)
            )
            first = first or next(iter(passing), None)
            made += passing
        if first is not None:
            made += [_settled(one, register, schemas) for one in vary(first, flow, protocol)]
    return tuple(made)


def _start(
    flow: Flow,
    version: tuple[str, str],
    protocol: SharingProtocol,
    register: Register,
    at: datetime,
) -> list[Example]:
    """Return an example for each purpose between the first two agencies of a clause."""
    pair = next(
        (
            (sender, recipient)
            for (sender, recipient, kind), clauses in sorted(register.index.items())
            if kind == version[0] and any(_is(one, flow, protocol) for one in clauses)
        ),
        None,
    )
    if pair is None:
        return []
    return [
        Example(
            name=f"{flow.flow_id}: {version[0]} for {purpose}",
            sender=pair[0],
            recipient=pair[1],
            message_type=version[0],
            version=version[1],
            purpose=purpose,
            at=at,
            practitioner=_person(flow.practitioner or _OPEN),
            reason_for_access="ASSESSMENT",
            consent="ACTIVE" if flow.consent in EXPLICIT_MODELS else "",
            consent_kind=flow.consent_kind,
        )
        for purpose in sorted(flow.purposes)
    ]


def _is(clause: Clause, flow: Flow, protocol: SharingProtocol) -> bool:
    return clause.clause_id == flow.flow_id and clause.protocol.reference == protocol.reference


def _person(rule: PractitionerRule) -> Practitioner:
    return Practitioner(
        ref="example",
        role=min(rule.roles, default="PRACTITIONER"),
        clearance=min(rule.clearances, default=None),
        authentication=rule.authentication or None,
    )


def _passing(
    starts: list[Example], flow: Flow, register: Register, schemas: Schemas
) -> Iterator[Example]:
    """Yield samples that pass, until every rule that any sample meets is met."""
    for start in starts:
        met: frozenset[str] = frozenset()
        for seed in SEEDS:
            example = replace(start, seed=seed, name=f"{start.name}, sample {seed}")
            outcome = run_example(example, register, schemas)
            touched = rules_touched(flow, (example, outcome), schemas)
            own = outcome.result.clause.endswith(f" {flow.flow_id}")
            if own and outcome.result.decision == PERMITTED and not touched <= met:
                met |= touched
                yield replace(example, expect=outcome.result)


def _settled(example: Example, register: Register, schemas: Schemas) -> Example:
    return replace(example, expect=run_example(example, register, schemas).result)


def vary(first: Example, flow: Flow, protocol: SharingProtocol) -> Iterator[Example]:
    """Yield what is like ``first``, which passes, but for one thing; most of it is refused."""

    def like(what: str, **values: object) -> Example:
        return replace(first, name=f"{flow.flow_id}: {what}", **values)  # type: ignore[arg-type]

    if follows_answer(first.message_type):
        yield like("before it was taken", taken=False)
    yield like("another purpose", purpose="AUDIT" if first.purpose != "AUDIT" else "CP")
    yield like("the other way", sender=first.recipient, recipient=first.sender)
    yield like("to an agency that is not there", recipient=AgencyId("no-such-agency"))
    yield like("after it lapsed", at=protocol.stands_until)
    yield like("about a shielded person", shielded=True)
    if flow.practitioner is not None:
        yield like("without a practitioner", practitioner=None)
        yield like("by somebody in another role", practitioner=Practitioner("example", "OTHER"))
    if first.consent:
        yield like("without consent", consent="")
        yield like("consent refused", consent="REFUSED")
        yield like("consent withdrawn", consent="WITHDRAWN")
        other = next(kind for kind in GROUNDS if kind != first.consent_kind)
        yield like("consent of another kind", consent_kind=other)
    for rule in flow.items:
        if rule.include == "MANDATORY":
            yield like(f"without {rule.target}", without=(rule.target,))


def as_toml(reference: str, examples: tuple[Example, ...]) -> str:
    """Return the file of these examples."""
    head = (
        f"# What must become of messages under {reference}. `fame protocol test` asks the broker;\n"
        "# read each as the parties meant it, and add what matters to you. All of it is invented.\n"
    )
    return "\n".join((head + f"\nprotocol = {_text(reference)}", *map(_table, examples)))


def _table(example: Example) -> str:
    given = {
        "name": _text(example.name),
        "from": _text(example.sender),
        "to": _text(example.recipient),
        "type": _text(example.message_type),
        "version": _text(example.version),
        "purpose": _text(example.purpose),
        "at": rfc3339(example.at),
        "seed": str(example.seed),
        "without": _texts(example.without),
        "reason_for_access": _text(example.reason_for_access),
        "shielded": "true" if example.shielded else "",
        "consent": _text(example.consent),
        "consent_kind": _text(example.consent_kind if example.consent_kind != GDPR_BASIS else ""),
        "taken": "" if example.taken else "false",
        "practitioner": _practitioner(example.practitioner),
    }
    lines = [f"{key} = {value}" for key, value in given.items() if value]
    return "\n".join(("\n[[example]]", *lines, *_expected(example.expect)))


def _expected(expect: Expectation) -> list[str]:
    given = {
        "decision": _text(expect.decision),
        "reason": _text(expect.reason),
        "clause": _text(expect.clause),
        "withheld": _texts(expect.withheld),
    }
    lines = [f"{key} = {value}" for key, value in given.items() if value]
    return ["", "[example.expect]", *lines]


def _practitioner(person: Practitioner | None) -> str:
    if person is None:
        return ""
    given = {
        "role": person.role,
        "clearance": person.clearance,
        "authentication": person.authentication,
    }
    return f"{{ {', '.join(f'{key} = {_text(value)}' for key, value in given.items() if value)} }}"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if value else ""


def _texts(values: tuple[str, ...]) -> str:
    return f"[{', '.join(map(_text, values))}]" if values else ""

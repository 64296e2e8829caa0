"""Say of a decision what each of the ten steps found, and on which words of which clause."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.core import remedy
from broker.core.consent import CONFIDENTIALITY, GDPR_BASIS
from broker.core.outcome import Decision, FieldRule, Refused
from broker.core.plan import Action, make_plan
from broker.core.protocol import Register
from broker.core.reasons import explain
from broker.core.sharing import CATEGORY, EXPLICIT_MODELS, Flow, SharingProtocol

STEPS = (
    (1, "Both agencies take part"),
    (2, "The payload follows its schema"),
    (3, "A sharing protocol in force covers direction, type and purpose"),
    (4, "A legal gateway carries it"),
    (5, "The practitioner is named as asked"),
    (6, "Consent, where the clause rests on it"),
    (7, "The child's identifier, or why it is left out"),
    (8, "Shielding"),
    (9, "Items: only what is allowed, all that is mandatory"),
    (10, "Permitted"),
)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the procedure. ``outcome`` is passed, refused or not reached."""

    number: int
    title: str
    outcome: str
    words: str


def steps_of(decision: Decision) -> tuple[Step, ...]:
    """Return the ten steps as ``decision`` went through them."""
    stopped = decision.step if isinstance(decision, Refused) else len(STEPS) + 1
    return tuple(
        Step(number, title, _outcome(number, stopped), _words(number, decision))
        for number, title in STEPS
    )


def _outcome(number: int, stopped: int) -> str:
    if number == stopped:
        return "refused"
    return "passed" if number < stopped else "not reached"


def _words(number: int, decision: Decision) -> str:
    if isinstance(decision, Refused):
        return explain(decision.reason).cause if number == decision.step else ""
    words = {
        3: f"{decision.protocol}@{decision.version}, flow {decision.clause}",
        4: decision.gateway,
        8: "address and location are removed" if decision.strip_location else "",
        10: "; ".join(decision.warnings),
    }
    return words.get(number, "")


def flow_of(decision: Decision, register: Register) -> Flow | None:
    """Return the flow that ``decision`` names, as the parties signed it."""
    if isinstance(decision, Refused):
        reference = decision.protocol
    else:
        reference = f"{decision.protocol}@{decision.version}"
    protocol = register.protocols.get(reference or "")
    flows = protocol.flows if protocol else ()
    return next((flow for flow in flows if flow.flow_id == decision.clause), None)


def texts_of(decision: Decision, register: Register) -> Mapping[int, str]:
    """Return, by number of step, what the agreement says that the step goes by.

    Empty where no clause was reached: then nothing was agreed.
    """
    flow, protocol = flow_of(decision, register), _protocol_of(decision, register)
    if flow is None or protocol is None:
        return {}
    statutes = [f"{one.gateway_id} ({one.statute})" for one in flow.gateways]
    conditions = [f"{one.gateway_id} ({one.statute})" for one in flow.conditions]
    shielded = "it is refused" if flow.refuses_shielded else "address and location are removed"
    texts = {
        3: _covers(flow, protocol),
        4: f"rests on {_list(statutes, 'or')}{', with ' + _list(conditions) if conditions else ''}",
        5: remedy.practitioner(flow.practitioner) if flow.practitioner else "nobody need be named",
        6: _consent(flow),
        8: f"about a shielded person: {shielded}",
        9: _items(flow),
        10: protocol.title,
    }
    return {number: text for number, text in texts.items() if text}


def _protocol_of(decision: Decision, register: Register) -> SharingProtocol | None:
    if isinstance(decision, Refused):
        return register.protocols.get(decision.protocol or "")
    return register.protocols.get(f"{decision.protocol}@{decision.version}")


def _covers(flow: Flow, protocol: SharingProtocol) -> str:
    types = [f"{name}/{version}" for name, version in flow.message_types]
    purposes = [f"{code}: {protocol.purposes[code]}" for code in sorted(flow.purposes)]
    return (
        f"{flow.method['description']} {_list(types)}, from {_list(flow.senders)} to "
        f"{_list(flow.recipients)}, for {' '.join(purposes)}"
    )


def _consent(flow: Flow) -> str:
    words = consent_words(flow, flow.consent)
    if flow.sensitive_consent == flow.consent:
        return words
    return f"{words}; for sensitive services, {consent_words(flow, flow.sensitive_consent)}"


def consent_words(flow: Flow, model: str) -> str:
    """Return what ``model`` asks under ``flow``, in words: explicit consent, of which kind."""
    words = CONSENT_WORDS[model]
    return f"{words} ({KIND_WORDS[flow.consent_kind]})" if model in EXPLICIT_MODELS else words


KIND_WORDS = {
    GDPR_BASIS: "as the lawful basis under UK GDPR",
    CONFIDENTIALITY: "to pass on what was told in confidence",
}


CONSENT_WORDS = {
    "NOT_REQUIRED": "consent is not asked, because the sharing rests on a power or duty",
    "NOT_APPLICABLE": "consent is not asked, because this is about nobody",
    "INFORMED_ONLY": "consent is not asked, but the person is told",
    "EXPLICIT_REQUIRED": "the person's explicit consent to this recipient is needed",
    "EXPLICIT_OR_HARM": "the person's explicit consent is needed, or a stated ground of harm",
}


def _items(flow: Flow) -> str:
    words = []
    for include, verb in (
        ("MANDATORY", "must hold"),
        ("ALLOWED", "may hold"),
        ("FORBIDDEN", "never"),
    ):
        targets = [rule.target for rule in flow.items if rule.include == include]
        if targets:
            words.append(f"{verb} {_list(targets)}")
    return "; ".join(words)


def _list(names: Sequence[str], joint: str = "and") -> str:
    *most, last = names
    return f"{', '.join(most)} {joint} {last}" if most else last


@dataclass(frozen=True, slots=True)
class Item:
    """What a flow does to one element, and why. ``category`` is empty if no schema knows it."""

    path: str
    category: str
    action: str
    rules: tuple[FieldRule, ...]
    necessity: str


def item_of(flow: Flow, path: str, categories: Mapping[str, str]) -> Item:
    """Return what ``flow`` does to the element at ``path``, and the rules that reach it."""
    names = path.split("/")
    around = ["/".join(names[: count + 1]) for count in range(len(names))]
    category = categories.get(path, "")
    targets = {*around, *(f"{CATEGORY}{categories[one]}" for one in around if one in categories)}
    own = {*around, f"{CATEGORY}{category}"}
    rules = tuple(
        rule
        for rule in flow.items
        if rule.target in (targets if rule.include == "FORBIDDEN" else own)
    )
    node = make_plan(flow.items, categories)
    for name in names:
        node = node.child(name)
    if node.action is Action.REMOVED and not node.gone:
        return Item(path, category, "some of what is in it stays", rules, "")
    forbidding = [rule for rule in rules if rule.include == "FORBIDDEN"]
    words = "; ".join(flow.necessity[rule.target] for rule in forbidding or rules)
    return Item(path, category, node.action, rules, words or "no rule reaches it: forbidden")

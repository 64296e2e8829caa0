"""A draft beside what is in force: one real message, decided and minimised under both.

Unlike `broker.core.whatif`, which knows past messages by their codes, this looks at the message
itself. Nothing passes by it: what comes out is a comparison, in codes and paths.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from broker.core.clause import Clause, Pair
from broker.core.facts import Categories
from broker.core.identity import AgencyId
from broker.core.message import ValidMessage
from broker.core.minimise import minimise
from broker.core.outcome import Decision, Permitted
from broker.core.plan import Action
from broker.core.protocol import Register
from broker.core.whatif import Outcome, Turn, outcome_of

_POSITION = re.compile(r"\[\d+\]")
_RANK = {action: rank for rank, action in enumerate(Action)}
_NOTHING = Outcome("", "", "")
_Fields = tuple[tuple[str, ...], tuple[str, ...], bool]
_SAME: _Fields = (), (), False


class Found(StrEnum):
    """What became of one decision under the draft."""

    AGREES = "agrees"
    PASSES = Turn.PASSES.value  # refused in force, permitted under the draft
    STOPS = Turn.STOPS.value
    REDUCED = "reduced differently"  # permitted by both, and not the same is withheld
    OTHER_REASON = Turn.OTHER_REASON.value
    FAILED = "failed"  # the draft could not be asked
    SKIPPED = "skipped"  # nobody asked: there was no time, or what is in force had just changed


COMPARED = (Found.AGREES, Found.PASSES, Found.STOPS, Found.REDUCED, Found.OTHER_REASON)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two decisions on one message for one recipient. ``live`` is what holds.

    ``more`` and ``less`` are the paths of which the draft shows more, or less. ``unsaid``: they
    are of a kind of which not even its presence is told, so that no message may be named for it.
    """

    found: Found
    sender: AgencyId
    recipient: AgencyId
    message_type: str
    purpose: str
    live: Outcome = _NOTHING
    draft: Outcome = _NOTHING
    more: tuple[str, ...] = ()
    less: tuple[str, ...] = ()
    unsaid: bool = False


def touched(live: Register, draft: Register, protocol_id: str) -> frozenset[Pair]:
    """Return sender, recipient and type of all that a protocol, old or drafted, speaks of."""
    return frozenset(
        pair
        for register in (live, draft)
        for pair, clauses in register.index.items()
        if any(_rests_on(clause, protocol_id) for clause in clauses)
    )


def _rests_on(clause: Clause, protocol_id: str) -> bool:
    return any(one.protocol_id == protocol_id for one in clause.chain)


def unanswered(found: Found, message: ValidMessage, recipient: AgencyId) -> Comparison:
    """Return the comparison that could not be made."""
    header = message.header
    return Comparison(found, header.sender, recipient, header.message_type, header.purpose)


def compare(  # noqa: PLR0913 - both sides, and what minimising asks
    message: ValidMessage,
    recipient: AgencyId,
    live: Decision,
    draft: Decision,
    *,
    schemas: Categories,
    salt: bytes,
) -> Comparison:
    """Return how ``draft`` differs from ``live``, field by field where both permit."""
    header = message.header
    before, after = outcome_of(live), outcome_of(draft)
    fields = _SAME
    found = Found.AGREES
    if isinstance(live, Permitted) and isinstance(draft, Permitted):
        fields = _fields(message, live, draft, schemas, salt)
        if fields != _SAME:
            found = Found.REDUCED
    elif before.permitted != after.permitted:
        found = Found.PASSES if after.permitted else Found.STOPS
    elif before.reason != after.reason:
        found = Found.OTHER_REASON
    return Comparison(
        found, header.sender, recipient, header.message_type, header.purpose,
        before, after, *fields,
    )  # fmt: skip


def _fields(
    message: ValidMessage, live: Permitted, draft: Permitted, schemas: Categories, salt: bytes
) -> _Fields:
    """Return the paths shown more, those shown less, and whether there are others, unsaid."""
    sides = ((one.fields, one.strip_location, one.reach) for one in (live, draft))
    if len(set(sides)) == 1:
        return _SAME
    then, now = (minimise(message, one, schemas, salt).withheld for one in (live, draft))
    unsaid = {item.path for item in (*then, *now) if not item.said}
    was = {item.path: item.action for item in then}
    will = {item.path: item.action for item in now}
    more: set[str] = set()
    less: set[str] = set()
    hidden = False
    for path in was.keys() | will.keys():
        ranks = _RANK[_done(was, path)], _RANK[_done(will, path)]
        if ranks[0] == ranks[1]:
            continue
        if path in unsaid:
            hidden = True
        else:
            (more if ranks[1] < ranks[0] else less).add(_POSITION.sub("", path))
    return tuple(sorted(more)), tuple(sorted(less)), hidden


def _done(withheld: dict[str, Action], path: str) -> Action:
    """Return what is done to the element at ``path``: what is around it may be gone as a whole."""
    place = path
    while place:
        if place in withheld:
            return withheld[place] if place == path else Action.REMOVED
        place = place.rpartition("/")[0]
    return Action.KEPT

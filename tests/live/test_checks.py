"""The checks checked: a good history is clean, and each fault turns exactly its checks red."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import rfc8785

from tests.live.checks import CHECKS, judge
from tests.live.history import Ban, Entry, Event, History, Kept, Kind, Outcome, Sent, Taken

A, B, C = (b"Zm" + letter * 12 + b"x" for letter in (b"a", b"b", b"c"))
HIDDEN = b"Zw" + b"h" * 12 + b"x"
SENDER, RECIPIENT = "school", "council"


def sent(message_id: str, mark: bytes, ordinal: int) -> Sent:
    under = frozenset({SENDER, RECIPIENT, "agreement"})
    return Sent(message_id, mark, SENDER, RECIPIENT, "child", ordinal, (HIDDEN,), under)


def asked(message_id: str, mark: bytes, at: float, kind: Kind = Kind.OK) -> list[Event]:
    receipt = b"receipt of " + mark if kind is Kind.OK else b""
    return [
        Event(Kind.INVOKE, message_id, mark, at),
        Event(kind, message_id, mark, at + 0.5, receipt),
    ]


def entry(sequence: int, **facts: Any) -> Entry:
    written = rfc8785.dumps({"seq": sequence, **facts})
    return Entry(sequence, hashlib.sha256(b"\0" + written).digest(), written)


def accepted(sequence: int, submission: str) -> Entry:
    return entry(sequence, kind="submission", submission=submission)


def ended(sequence: int, delivery: str, level: str = "L2", **facts: object) -> Entry:
    facts = {"delivery": delivery, "attempt": 1, "way": "webhook", **facts}
    return entry(sequence, kind="evidence", level=level, facts=facts)


GOOD = History(
    sent=[sent("m-1", A, 0), sent("m-2", B, 1), sent("m-2", C, 1)],
    events=[
        *asked("m-1", A, 1, Kind.INFO),
        *asked("m-1", A, 2),
        *asked("m-2", B, 3),
        *asked("m-2", C, 4, Kind.FAIL),  # another body under the id: told no
    ],
    taken=[
        Taken(RECIPIENT, "d-1", b"<" + A + b">", 2.5),
        Taken(RECIPIENT, "d-1", b"<" + A + b">", 2.6),  # again, and marked as such
        Taken(RECIPIENT, "d-2", b"<" + B + b">", 3.6),
    ],
    bans=[Ban("agreement", 10, 20)],
    kept=[Kept("s-1", "m-1", SENDER, 0), Kept("s-2", "m-2", SENDER, 2)],
    outcomes=[
        Outcome("d-1", "m-1", RECIPIENT, "delivered"),
        Outcome("d-2", "m-2", RECIPIENT, "delivered"),
    ],
    ledger=[accepted(0, "s-1"), ended(1, "d-1"), accepted(2, "s-2"), ended(3, "d-2")],
    places={"log": b"nothing to see"},
)


def without_first(history: History) -> History:
    return replace(
        history,
        kept=history.kept[1:],
        taken=history.taken[2:],
        outcomes=history.outcomes[1:],
        ledger=[accepted(0, "s-2"), ended(1, "d-2")],
    )


def never_taken(history: History) -> History:
    return replace(history, taken=history.taken[2:])


def refused_without_cause(history: History) -> History:
    outcomes = [Outcome("d-1", "m-1", RECIPIENT, "refused"), history.outcomes[1]]
    ledger = [accepted(0, "s-1"), ended(1, "d-1", "refused"), *history.ledger[2:]]
    taken = history.taken[2:]
    return replace(history, outcomes=outcomes, ledger=ledger, taken=taken, bans=[])


def taken_by(history: History, one: Taken) -> History:
    return replace(history, taken=[*history.taken, one])


def other_delivery(history: History) -> History:
    again = taken_by(history, Taken(RECIPIENT, "d-3", b"<" + A + b">", 5))
    return replace(again, ledger=[*history.ledger, ended(4, "d-3")])


def kept_twice(history: History) -> History:
    kept = [*history.kept, Kept("s-3", "m-1", SENDER, 4)]
    return replace(history, kept=kept, ledger=[*history.ledger, accepted(4, "s-3")])


def nobodys(history: History) -> History:
    stranger = Taken(RECIPIENT, "d-2", b"<Zm" + b"z" * 12 + b"x>", 5)
    return taken_by(history, stranger)


def kept_by_nobody(history: History) -> History:
    kept = [*history.kept, Kept("s-3", "m-9", SENDER, 4)]
    return replace(history, kept=kept, ledger=[*history.ledger, accepted(4, "s-3")])


def refused_and_taken(history: History) -> History:
    return taken_by(history, Taken(RECIPIENT, "d-2", b"<" + C + b">", 5))


def taken_while_stopped(history: History) -> History:
    return taken_by(history, Taken(RECIPIENT, "d-2", b"<" + B + b">", 12))


def taken_by_another(history: History) -> History:
    return taken_by(history, Taken("stranger", "d-2", b"<" + B + b">", 5))


def shown(history: History) -> History:
    body = b"<" + B + HIDDEN + b">"
    return taken_by(history, Taken(RECIPIENT, "d-2", body, 5))


def logged(history: History) -> History:
    return replace(history, places={"log": b"... " + HIDDEN + b" ..."})


def in_another_order(history: History) -> History:
    late = [replace(one, at=one.at + 5) for one in history.taken[:2]]
    return replace(history, taken=[*late, history.taken[2]])


def entry_missing(history: History) -> History:
    return replace(history, ledger=history.ledger[:3])


def entry_twice(history: History) -> History:
    return replace(history, ledger=[*history.ledger, ended(4, "d-2")])


def entry_of_nothing(history: History) -> History:
    return replace(history, ledger=[*history.ledger, accepted(4, "s-9")])


def end_untold(history: History) -> History:
    outcomes = [*history.outcomes, Outcome("d-9", "m-9", RECIPIENT, "expired")]
    return replace(history, outcomes=outcomes)


def number_missing(history: History) -> History:
    first, *others = history.ledger
    return replace(history, ledger=[first, *(replace(o, sequence=o.sequence + 1) for o in others)])


def edited(history: History) -> History:
    *others, last = history.ledger
    return replace(history, ledger=[*others, replace(last, written=last.written + b" ")])


def receipt_changed(history: History) -> History:
    event = Event(Kind.OK, "m-1", A, 6, b"another receipt")
    return replace(history, events=[*history.events, event])


def two_bodies_accepted(history: History) -> History:
    return replace(history, events=[*history.events, *asked("m-2", C, 5)])


def left_open(history: History) -> History:
    outcomes = [*history.outcomes, Outcome("d-9", "m-9", RECIPIENT, "pending")]
    return replace(history, outcomes=outcomes)


def never_answered(history: History) -> History:
    more = sent("m-4", b"Zm" + b"q" * 12 + b"x", 2)
    events = [*history.events, *asked("m-4", more.mark, 7, Kind.INFO)]
    return replace(history, sent=[*history.sent, more], events=events)


FAULTS: list[tuple[Callable[[History], History], set[str]]] = [
    (without_first, {"lost"}),
    (never_taken, {"lost"}),
    (refused_without_cause, {"lost"}),
    (other_delivery, {"duplicate"}),
    (kept_twice, {"duplicate"}),
    (nobodys, {"phantom"}),
    (kept_by_nobody, {"phantom"}),
    (refused_and_taken, {"aborted_read"}),
    (taken_while_stopped, {"unauthorised"}),
    (taken_by_another, {"unauthorised"}),
    (shown, {"over_shared"}),
    (logged, {"over_shared"}),
    (in_another_order, {"order_inversion"}),
    (entry_missing, {"unaudited"}),
    (entry_twice, {"unaudited"}),
    (entry_of_nothing, {"unaudited"}),
    (end_untold, {"unaudited"}),
    (number_missing, {"ledger_broken"}),
    (edited, {"ledger_broken"}),
    (receipt_changed, {"receipts_differ"}),
    (two_bodies_accepted, {"lost", "receipts_differ"}),
    (left_open, {"stuck"}),
    (never_answered, {"stuck"}),
]


def test_a_good_history_is_clean() -> None:
    verdict = judge(GOOD)

    assert verdict.clean, verdict
    assert str(verdict) == "clean"


@pytest.mark.parametrize(("fault", "red"), FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_bad_history_turns_its_checks_red_and_no_others(
    fault: Callable[[History], History], red: set[str]
) -> None:
    assert judge(fault(GOOD)).red == red


def test_every_check_is_shown_to_turn_red() -> None:
    assert set().union(*(red for _fault, red in FAULTS)) == set(CHECKS)


def test_what_a_process_could_not_record_is_in_doubt_and_not_unaudited() -> None:
    """It died with the answer in its hand; then the rules stopped its second attempt."""
    outcomes = [GOOD.outcomes[0], Outcome("d-2", "m-2", RECIPIENT, "refused")]
    ledger = [*GOOD.ledger[:3], ended(3, "d-2", "refused", in_doubt=1)]
    doubtful = replace(GOOD, outcomes=outcomes, ledger=ledger)

    assert judge(doubtful).clean
    silent = ended(3, "d-2", "refused", attempt=2)  # a number tells of attempts, not of answers
    assert judge(replace(doubtful, ledger=[*ledger[:3], silent])).red == {"unaudited"}


def test_what_was_taken_and_is_still_open_is_stuck_and_not_unaudited() -> None:
    outcomes = [GOOD.outcomes[0], Outcome("d-2", "m-2", RECIPIENT, "pending")]
    open_ = replace(GOOD, outcomes=outcomes, ledger=GOOD.ledger[:3])

    assert judge(open_).red == {"stuck"}


@pytest.mark.parametrize(
    ("way", "bans", "red"),
    [
        ("collected", [Ban("agreement", 3, 20)], set()),
        ("collected", [], {"lost"}),
        ("webhook", [Ban("agreement", 3, 20)], {"lost"}),
    ],
)
def test_what_was_given_out_of_a_mailbox_may_be_forbidden_before_it_arrives(
    way: str, bans: list[Ban], red: set[str]
) -> None:
    """It is on record first; the process dies, and the second reading is refused."""
    ledger = [*GOOD.ledger[:3], ended(3, "d-2", way=way)]

    assert judge(replace(GOOD, taken=GOOD.taken[:2], ledger=ledger, bans=bans)).red == red

"""What the ledger says to the clocks, and the figures of a partnership."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broker.core.clock_facts import (
    Ran,
    Started,
    Stopped,
    performance,
    read_entry,
    stated_starts,
)
from broker.core.clocks import ClockState
from broker.core.identity import AgencyId
from broker.core.instant import millis
from broker.core.ledger import canonical, clock_entry
from broker.core.outcome import Permitted, RecipientVerdict, Refused
from broker.core.protocol import Register
from broker.core.reasons import Reason
from tests.unit.policy_world import SHARING, Tables, message, register
from tests.unit.test_clocks import CLOCK

AT = datetime(2026, 6, 1, 9, tzinfo=UTC)
CREATED = datetime(2026, 6, 1, 8, tzinfo=UTC)


HAPPENED = datetime(2026, 5, 30, 7, 30, tzinfo=UTC)
CSC = AgencyId("csc")
PERMITTED = Permitted("checks", 1, "check", "CDA-115", ())


def decision(kind: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "submission": "s-1", "agency": "yot", "at": millis(AT), **more}


def test_the_review_of_a_decision_to_share_without_consent_has_a_clock() -> None:
    review_by = AT + timedelta(hours=72)
    said = {"message_id": "m-1", "protocol": "consent@1", "review_by": millis(review_by)}
    (started,) = read_entry(decision("override", **said), register())
    (stopped,) = read_entry(decision("override-review"), register())

    assert isinstance(started, Started)
    assert isinstance(stopped, Stopped)
    assert (started.sender, started.recipient, started.protocol) == ("yot", "yot", "consent@1")
    assert started.rule.clock_id == "OVERRIDE-REVIEW"
    assert (started.at, started.times.overdue_from) == (AT, review_by)
    assert started.times.due_from == AT + timedelta(hours=54)
    assert started.times.escalated_from == AT + timedelta(hours=144)
    assert stopped.by in started.rule.stops
    assert (stopped.submission_id, stopped.recipient, stopped.at) == ("s-1", "yot", AT)


@pytest.mark.parametrize("kind", ["override", "override-review"])
def test_what_was_decided_before_its_review_had_a_clock_starts_none(kind: str) -> None:
    for entry in (decision(kind, submission=None), {"kind": kind, "agency": "yot"}):
        assert list(read_entry(entry, register())) == []


def clocked(starts: str = "ACCEPTED", **more: str) -> Register:
    def change(tables: Tables) -> None:
        tables["clocks.toml"] = {"clock": [{**CLOCK, "starts": starts, **more}]}
        tables[SHARING]["flow"][0]["clocks"] = ["ACK"]

    return register(change)


def submission(
    correlation: str | None = None, *, permitted: bool = True, withheld: list[str] | None = None
) -> dict[str, Any]:
    return {
        "kind": "submission",
        "submission": "s-1",
        "received_at": millis(AT),
        "header": {
            "message_id": "m-1",
            "correlation_id": correlation,
            "type": "Check",
            "sender": "yot",
            "created_at": millis(CREATED),
        },
        "decisions": [
            {
                "recipient": "csc",
                "permitted": permitted,
                "protocol": "checks",
                "version": 1,
                "clause": "check",
                "withheld": withheld or [],
            }
        ],
    }


def test_a_clock_starts_for_each_recipient_that_may_have_the_message() -> None:
    (started,) = read_entry(submission(), clocked())

    assert isinstance(started, Started)
    assert (started.submission_id, started.message_id) == ("s-1", "m-1")
    assert (started.sender, started.recipient, started.clause) == ("yot", "csc", "check")
    assert (started.protocol, started.rule.clock_id, started.at) == ("checks@1", "ACK", AT)
    assert list(read_entry(submission(permitted=False), clocked())) == []


def test_a_clock_can_start_when_the_message_was_made() -> None:
    (started,) = read_entry(submission(), clocked("CREATED"))

    assert isinstance(started, Started)
    assert started.at == CREATED


def test_a_clock_can_start_when_the_payload_says_it_happened() -> None:
    held = clocked("STATED", element="EventAt")
    (started,) = read_entry({**submission(), "stated": {"EventAt": millis(HAPPENED)}}, held)
    (unsaid,) = read_entry({**submission(), "stated": {"Other": millis(HAPPENED)}}, held)
    (nothing,) = read_entry(submission(), held)
    unseen = {**submission(withheld=["EventAt"]), "stated": {"EventAt": millis(HAPPENED)}}
    (hidden,) = read_entry(unseen, held)

    for one, at in ((started, HAPPENED), (unsaid, CREATED), (nothing, CREATED), (hidden, CREATED)):
        assert isinstance(one, Started)
        assert one.at == at


def said(inside: str, verdict: RecipientVerdict | None = None) -> dict[str, datetime]:
    read = message(f'<Check xmlns="urn:x">{inside}</Check>', created_at=CREATED)
    verdicts = (RecipientVerdict(CSC, PERMITTED) if verdict is None else verdict,)
    return stated_starts(read, verdicts, clocked("STATED", element="EventAt"))


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-05-30T08:30:00+01:00", datetime(2026, 5, 30, 7, 30, tzinfo=UTC)),
        ("2026-05-30", datetime(2026, 5, 29, 23, tzinfo=UTC)),  # the day begins in London
        ("2026-06-01T08:00:00Z", CREATED),
        ("2026-06-01T08:00:00.001Z", CREATED),  # what is yet to come
        ("2026-06-02", CREATED),
        ("\n 2026-05-30T08:30:00+01:00\t", HAPPENED),  # a schema takes no notice of it either
        (" 2026-05-30 ", datetime(2026, 5, 29, 23, tzinfo=UTC)),
        ("1000-01-01T00:00:00Z", datetime(1000, 1, 1, tzinfo=UTC)),
    ],
)
def test_an_instant_or_a_day_is_read_from_the_payload(text: str, at: datetime) -> None:
    assert said(f"<EventAt>{text}</EventAt>") == {"EventAt": at}


def test_what_is_not_there_not_shown_or_not_for_them_starts_nothing() -> None:
    there = "<EventAt>2026-05-30</EventAt>"
    withheld = RecipientVerdict(CSC, PERMITTED, b"<R/>", ("EventAt",))
    refused = RecipientVerdict(CSC, Refused(Reason.NO_ISP, 3, "-", None, None))

    assert said("") == {}
    assert said(f"<Child>{there}</Child>") == {}
    assert said(there, withheld) == {}
    assert said(there, refused) == {}
    plain = stated_starts(
        message(f'<Check xmlns="urn:x">{there}</Check>'),
        (RecipientVerdict(CSC, PERMITTED),),
        clocked("CREATED"),
    )
    assert plain == {}


def test_an_answer_stops_the_clock_of_whom_it_answers_if_they_may_have_it() -> None:
    _, stopped = read_entry(submission("m-0"), clocked())

    assert stopped == Stopped(by="Check", recipient="yot", at=AT, sender="csc", message_id="m-0")
    assert list(read_entry(submission("m-0", permitted=False), clocked())) == []


def test_an_acknowledgement_stops_a_clock_and_another_end_does_not() -> None:
    entry = {
        "kind": "evidence",
        "level": "L3",
        "recipient": "csc",
        "submission": "s-1",
        "at": millis(AT),
    }

    assert list(read_entry(entry, clocked())) == [
        Stopped(by="L3", recipient="csc", at=AT, submission_id="s-1")
    ]
    assert list(read_entry({**entry, "level": "expired"}, clocked())) == []
    assert list(read_entry({**entry, "kind": "operator"}, clocked())) == []


def ran(state: ClockState, recipient: str = "csc", took: float | None = 3600.0) -> Ran:
    return Ran("ACK", recipient, state, took)


def test_the_figures_count_what_was_met_of_what_is_decided() -> None:
    clocks = [ran(ClockState.MET)] * 6 + [ran(ClockState.MET_LATE, took=7200.0)]
    clocks += [ran(ClockState.OVERDUE, took=None), ran(ClockState.RUNNING, took=None)]

    everybody, csc = performance(clocks)

    assert everybody == {
        "clock": "ACK",
        "recipient": "*",
        "count": 9,
        "open": 2,
        "on_time_percent": 75,
        "median_hours": 1.0,
    }
    assert csc == {**everybody, "recipient": "csc"}


def test_small_numbers_are_not_told() -> None:
    clocks = [ran(ClockState.MET)] * 5 + [ran(ClockState.MET_LATE, "yot")] * 4
    told = {one["recipient"]: one for one in performance(clocks)}

    assert told["csc"]["count"] == 5  # the fewest of which anything is told
    assert (told["csc"]["on_time_percent"], told["csc"]["median_hours"]) == (100, 1.0)
    assert told["yot"] == {"clock": "ACK", "recipient": "yot", "count": "fewer than 5"}


def test_nor_percentages_and_medians_of_small_numbers() -> None:
    clocks = [ran(ClockState.RUNNING, took=None)] * 4 + [ran(ClockState.MET)]

    assert performance(clocks)[0] == {
        "clock": "ACK",
        "recipient": "*",
        "count": 5,
        "open": 4,
        "on_time_percent": None,
        "median_hours": None,
    }


def test_what_becomes_of_a_clock_is_an_entry_of_codes_and_ids() -> None:
    entry = clock_entry("ACK", "overdue", at=CREATED, recorded_at=AT, message="s-1", sender="yot")

    assert entry == {
        "v": 1,
        "kind": "clock",
        "clock": "ACK",
        "event": "overdue",
        "at": millis(CREATED),
        "recorded_at": millis(AT),
        "facts": {"message": "s-1", "sender": "yot"},
    }
    assert b'"event":"overdue"' in canonical(entry)

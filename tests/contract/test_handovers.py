"""Who has taken what, on every database: to whom the answer was given, and the newest one."""

from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

import pytest
from lxml import etree

from broker.core.handover import Answer, answer_of
from broker.core.identity import AgencyId, SubjectRef
from broker.core.message import ValidMessage
from broker.core.outcome import RecipientVerdict, Refused
from broker.core.reasons import Reason
from broker.core.submission import Submission
from broker.edge import handovers
from broker.edge.handovers import HandoverBook
from broker.edge.store import Store
from tests.contract import stores
from tests.contract.stores import PERMITTED, submission, with_header

OLD, NEW, THIRD = AgencyId("old-csc"), AgencyId("new-csc"), AgencyId("third-csc")
CHILD = SubjectRef("a" * 32)


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = stores.open_store(url)
    yield opened
    await opened.close()


def said(message_type: str, sender: AgencyId, **texts: str) -> Submission:
    payload = etree.Element(f"{{urn:x}}{message_type}")
    for name, text in texts.items():
        etree.SubElement(payload, f"{{urn:x}}{name}").text = text
    made = with_header(submission(), message_type=message_type, sender=sender)
    return replace(made, message=replace(made.message, payload=payload))


def record(number: str = "T-1") -> ValidMessage:
    return said("RecordTransfer", OLD, TransferId=number).message


async def answer(
    store: Store, decision: str, *, by: AgencyId = NEW, to: AgencyId = OLD, passed: bool = True
) -> None:
    made = said("RecordTransferResponse", by, TransferId="T-1", Decision=decision)
    decided = PERMITTED if passed else Refused(Reason.NO_ISP, 3, "none")
    made = replace(made, verdicts=(RecipientVerdict(to, decided),))
    given = answer_of(made.message)
    assert isinstance(given, Answer)
    await store.submit(made, partial(handovers.keep, submission=made, answer=given))


async def taken(store: Store, subject: SubjectRef | None = CHILD) -> set[AgencyId]:
    return set(await HandoverBook(store).taken_by(record(), subject, (NEW, THIRD)))


async def test_the_newest_answer_of_each_counts(store: Store) -> None:
    assert await taken(store) == set()
    await answer(store, "ACCEPTED")
    assert await taken(store) == {NEW}
    await answer(store, "DECLINED", by=THIRD)
    await answer(store, "DECLINED")
    assert await taken(store) == set()
    await answer(store, "ACCEPTED", by=THIRD)
    assert await taken(store) == {THIRD}
    assert await taken(store, None) == set()


async def test_an_answer_counts_for_whoever_it_was_given_to(store: Store) -> None:
    await answer(store, "ACCEPTED", to=THIRD)
    await answer(store, "ACCEPTED", passed=False)  # whom it never reached

    assert await taken(store) == set()


async def test_what_follows_no_answer_asks_nobody(store: Store) -> None:
    await answer(store, "ACCEPTED")

    other = said("Check", OLD, TransferId="T-1").message
    assert await HandoverBook(store).taken_by(other, CHILD, (NEW,)) == frozenset()

"""The register of consents, on every database: kept for good, read at once, never a guess."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from sqlalchemy import select

from broker.core.capacity import FACTORS, Assessment
from broker.core.consent import Consent
from broker.core.consent_record import withdrawn
from broker.core.errors import Transient
from broker.core.identity import AgencyId, SubjectRef
from broker.core.outcome import RecipientVerdict
from broker.core.reasons import Reason
from broker.edge import consent_rows, tables
from broker.edge.consents import ConsentRegister
from broker.edge.ids import new_id
from broker.edge.store import Store, verify_ledger
from tests.contract import stores
from tests.contract.stores import NOW, OTHER, PERMITTED, RECIPIENT, SENDER, submission

PERSON = SubjectRef("a" * 32)


def consent(**changed: object) -> Consent:
    made = Consent(
        consent_id=new_id(),
        subject=PERSON,
        kind="GDPR_BASIS",
        status="ACTIVE",
        purposes=frozenset({"YJ", "EH"}),
        message_types=frozenset({"YOTCheckRequest"}),
        recipients=frozenset({RECIPIENT, OTHER}),
        form="EXPLICIT_VERBAL",
        given_at=NOW,
        given_by="SUBJECT",
        capacity="GILLICK_COMPETENT",
        wording="share-3",
        recorded_by=SENDER,
        recorded_at=NOW,
        review_at=NOW + timedelta(days=365),
        expires_at=NOW + timedelta(days=90),
        assessment=Assessment("school-nurse", NOW, frozenset(FACTORS)),
        document="f" * 64,
    )
    return replace(made, **changed)  # type: ignore[arg-type]


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = stores.open_store(url)
    yield opened
    await opened.close()


async def add(store: Store, *given: Consent) -> None:
    for one in given:
        await store.write(
            lambda conn, ledger, one=one: consent_rows.add(conn, ledger, one, peer="mtls:5e")  # type: ignore[misc]
        )


async def test_what_was_recorded_comes_back_as_it_was(store: Store) -> None:
    plain = consent(assessment=None, expires_at=None, document=None, capacity="ADULT")
    part = consent(categories=frozenset({"health", "education"}), support="INTERPRETER")
    given = sorted([consent(), plain, part], key=lambda one: one.consent_id)

    await add(store, *given)

    found = await ConsentRegister(store).held(PERSON)
    assert sorted(found, key=lambda one: one.consent_id) == given


async def test_about_another_or_about_nobody_there_is_nothing(store: Store) -> None:
    await add(store, consent())

    assert not await ConsentRegister(store).held(SubjectRef("b" * 32))
    assert not await ConsentRegister(store).held(None)


async def test_a_change_is_a_further_version_and_the_first_stays(store: Store) -> None:
    given = consent()
    gone = withdrawn(given, NOW + timedelta(hours=1), "PR_HOLDER", NOW)

    await add(store, given, gone)

    assert await ConsentRegister(store).held(PERSON) == [gone]
    history = await store.read(lambda conn: consent_rows.history(conn, given.consent_id))
    assert history == [given, gone]
    assert await store.read(lambda conn: consent_rows.load(conn, given.consent_id)) == gone
    assert await store.read(lambda conn: consent_rows.load(conn, new_id())) is None


async def test_each_version_has_its_entry_in_the_ledger(store: Store) -> None:
    given = consent()

    await add(store, given, withdrawn(given, NOW))

    entries = await store.read(
        lambda conn: conn.execute(select(tables.ledger.c.entry).order_by("seq")).scalars().all()
    )
    assert [orjson.loads(entry)["status"] for entry in entries] == ["ACTIVE", "WITHDRAWN"]
    assert (await store.read(verify_ledger)).fault == ""


async def test_a_version_is_written_once(store: Store) -> None:
    given = consent()
    await add(store, given)

    with pytest.raises(Exception, match="refused"):
        await add(store, replace(given, status="WITHDRAWN"))

    assert await ConsentRegister(store).held(PERSON) == [given]


async def test_another_process_sees_a_withdrawal_with_its_next_question(
    store: Store, url: str
) -> None:
    given = consent()
    await add(store, given)
    other = stores.open_store(url)
    try:
        before = await ConsentRegister(other).held(PERSON)
        await add(store, withdrawn(given, NOW))
        after = await ConsentRegister(other).held(PERSON)
    finally:
        await other.close()

    assert [one.status for one in [*before, *after]] == ["ACTIVE", "WITHDRAWN"]


async def test_a_register_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    store = stores.open_store(stores.sqlite_url(tmp_path))
    await store.write(lambda conn, _ledger: tables.consent.drop(conn))

    with pytest.raises(Transient) as fault:
        await ConsentRegister(store).held(PERSON)

    assert fault.value.reason is Reason.REGISTER_UNAVAILABLE
    await store.close()


async def test_an_agency_sees_its_own_records_page_by_page(store: Store) -> None:
    given = sorted((consent() for _ in range(3)), key=lambda one: one.consent_id)
    gone = withdrawn(given[1], NOW)
    await add(store, *given, gone, consent(recorded_by=OTHER))

    first = await store.read(lambda conn: consent_rows.of_agency(conn, SENDER, 2, None))
    rest = await store.read(
        lambda conn: consent_rows.of_agency(conn, SENDER, 2, first[-1].consent_id)
    )

    assert [*first, *rest] == [given[0], gone, given[2]]


async def test_people_about_whom_two_records_contradict_are_found(store: Store) -> None:
    disputed, agreed = SubjectRef("b" * 32), SubjectRef("c" * 32)
    gone = consent(subject=agreed)
    await add(
        store,
        consent(subject=disputed),
        consent(subject=disputed, status="REFUSED", recorded_by=OTHER),
        consent(subject=agreed),
        gone,
        replace(gone, version=2, status="SUPERSEDED"),
    )

    found = await store.read(lambda conn: consent_rows.disputed(conn, 10))

    assert found == [disputed]
    records = await store.read(lambda conn: consent_rows.of_subjects(conn, found))
    assert {one.recorded_by for one in records} == {SENDER, OTHER}


async def test_what_a_decision_rested_on_is_kept_with_it(store: Store) -> None:
    permitted = replace(PERMITTED, consents=("c-1", "c-2"))
    verdicts = (
        RecipientVerdict(RECIPIENT, permitted),
        RecipientVerdict(AgencyId("wearside-nhs"), PERMITTED),
    )
    given = submission(verdicts=verdicts)

    await store.submit(given)

    kept = await store.read(lambda conn: conn.execute(select(tables.reliance)).all())
    entry = await store.read(lambda conn: conn.execute(select(tables.ledger.c.entry)).scalar_one())
    assert {tuple(row) for row in kept} == {
        (name, given.submission_id, RECIPIENT) for name in ("c-1", "c-2")
    }
    decisions = orjson.loads(entry)["decisions"]
    assert [one["consents"] for one in decisions] == [["c-1", "c-2"], []]

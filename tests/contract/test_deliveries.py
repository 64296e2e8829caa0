from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Connection, update

from broker.core.identity import AgencyId, SubjectRef
from broker.core.instant import millis
from broker.core.outcome import DeliveryState, RecipientVerdict
from broker.edge import deliveries, delivery_views
from broker.edge.deliveries import Claimed, Held
from broker.edge.store import Store
from broker.edge.tables import delivery
from tests.contract.stores import (
    NOW,
    OTHER,
    PERMITTED,
    RECIPIENT,
    REFUSED,
    SENDER,
    open_store,
    submission,
    with_header,
)

DELIVERED = DeliveryState.DELIVERED.value
T0 = millis(NOW)
LEASE = 60_000


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = open_store(url)
    yield opened
    await opened.close()


class Outbox:
    """Deliveries and the statements about them, at moments that a test names."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._content = 0

    async def add(
        self, subject: str, *recipients: AgencyId, priority: str = "ROUTINE", late_ms: int = 0
    ) -> str:
        """Commit one message about ``subject`` and return its submission id."""
        self._content += 1
        verdicts = tuple(RecipientVerdict(to, PERMITTED) for to in recipients or (RECIPIENT,))
        made = submission(content=b"<Envelope>%d</Envelope>" % self._content, verdicts=verdicts)
        came = NOW + timedelta(milliseconds=late_ms)
        made = replace(made, subject_ref=SubjectRef(subject), received_at=came)
        made = with_header(made, priority=priority)
        await self.store.submit(made)
        return made.submission_id

    async def claim(
        self, owner: str = "one", *, now: int = T0, limit: int = 10, to: AgencyId = RECIPIENT
    ) -> list[Claimed]:
        return await self.store.write(
            lambda conn, _ledger: deliveries.claim(
                conn, to, owner=owner, now=now, until=now + LEASE, limit=limit
            )
        )

    async def load(self, delivery_id: str) -> Held:
        held = await self.store.read(lambda conn: deliveries.load(conn, delivery_id))
        assert held is not None
        return held

    async def do(self, act: Callable[[Connection], object]) -> object:
        return await self.store.write(lambda conn, _ledger: act(conn))

    async def end(self, claimed: Claimed, state: DeliveryState = DeliveryState.DELIVERED) -> bool:
        held = await self.load(claimed.delivery_id)
        return bool(await self.do(lambda conn: deliveries.settle(conn, held, state=state.value)))


@pytest.fixture
def outbox(store: Store) -> Outbox:
    return Outbox(store)


async def test_a_committed_delivery_is_claimed_once_while_the_lease_lasts(outbox: Outbox) -> None:
    await outbox.add("a")

    (claimed,) = await outbox.claim("one")

    assert claimed.attempt == 1
    assert await outbox.claim("two", now=T0 + LEASE - 1) == []


async def test_a_lease_that_ran_out_is_taken_by_another_and_counted(outbox: Outbox) -> None:
    await outbox.add("a")
    (first,) = await outbox.claim("one")

    (second,) = await outbox.claim("two", now=T0 + LEASE)

    assert second.delivery_id == first.delivery_id
    assert second.attempt == 2


async def test_a_later_delivery_waits_for_an_earlier_one_about_the_same_subject(
    outbox: Outbox,
) -> None:
    await outbox.add("a")
    await outbox.add("a")

    (first,) = await outbox.claim()
    assert await outbox.claim() == []
    await outbox.end(first)

    (second,) = await outbox.claim()
    assert second.delivery_id != first.delivery_id


async def test_a_retry_that_waits_holds_later_ones_of_its_key_back(outbox: Outbox) -> None:
    await outbox.add("a")
    await outbox.add("a")
    (first,) = await outbox.claim()
    held = await outbox.load(first.delivery_id)
    await outbox.do(lambda conn: deliveries.settle(conn, held, next_at=T0 + 5000))

    assert await outbox.claim(now=T0 + 4999) == []
    assert [one.delivery_id for one in await outbox.claim(now=T0 + 5000)] == [first.delivery_id]


async def test_other_subjects_and_other_recipients_do_not_wait(outbox: Outbox) -> None:
    await outbox.add("a", RECIPIENT, OTHER)
    await outbox.add("a", OTHER)
    await outbox.add("b")

    (first, third) = await outbox.claim()
    (_other,) = await outbox.claim(to=OTHER)

    assert {first.order_key, third.order_key} == {"a", "b"}


async def test_an_earlier_one_that_ended_in_any_way_does_not_hold_others_back(
    outbox: Outbox,
) -> None:
    for state in (
        DeliveryState.AVAILABLE,
        DeliveryState.UNDELIVERABLE,
        DeliveryState.EXPIRED,
        DeliveryState.REFUSED,
    ):
        await outbox.add(state.value)
        await outbox.add(state.value)
        (first,) = await outbox.claim()
        await outbox.end(first, state)

        (second,) = await outbox.claim()
        await outbox.end(second)


async def test_no_more_are_claimed_than_there_is_room_for(outbox: Outbox) -> None:
    for subject in "abcde":
        await outbox.add(subject)

    assert len(await outbox.claim(limit=2)) == 2
    assert len(await outbox.claim(limit=9)) == 3


async def test_what_is_released_was_never_claimed(outbox: Outbox) -> None:
    await outbox.add("a")
    (claimed,) = await outbox.claim("one")

    await outbox.do(lambda conn: deliveries.release(conn, "one", [claimed.delivery_id]))

    (again,) = await outbox.claim("two")
    assert again.attempt == 1


async def test_nobody_releases_what_another_holds(outbox: Outbox) -> None:
    await outbox.add("a")
    (claimed,) = await outbox.claim("one")

    await outbox.do(lambda conn: deliveries.release(conn, "two", [claimed.delivery_id]))

    assert await outbox.claim("three") == []


async def test_a_restarted_owner_finds_what_it_held_and_the_attempts_stay_counted(
    outbox: Outbox,
) -> None:
    await outbox.add("a")
    await outbox.add("b")
    await outbox.claim("one", limit=1)
    await outbox.claim("two", limit=1)

    adopted = await outbox.do(lambda conn: deliveries.adopt(conn, "one"))

    assert adopted == 1
    (claimed,) = await outbox.claim("one")
    assert claimed.attempt == 2


async def test_a_worker_that_lost_its_lease_records_nothing(outbox: Outbox) -> None:
    await outbox.add("a")
    (claimed,) = await outbox.claim("one")
    zombie = await outbox.load(claimed.delivery_id)
    await outbox.claim("two", now=T0 + LEASE)

    done = await outbox.do(lambda conn: deliveries.settle(conn, zombie, state="delivered"))

    assert done is False
    assert (await outbox.load(claimed.delivery_id)).state is DeliveryState.PENDING


async def test_a_worker_that_lost_its_lease_to_itself_records_nothing(outbox: Outbox) -> None:
    await outbox.add("a")
    (claimed,) = await outbox.claim("one")
    zombie = await outbox.load(claimed.delivery_id)
    await outbox.claim("one", now=T0 + LEASE)

    assert not await outbox.do(lambda conn: deliveries.settle(conn, zombie, state="delivered"))


async def test_of_two_that_settle_one_delivery_exactly_one_does(outbox: Outbox) -> None:
    await outbox.add("a")
    (claimed,) = await outbox.claim()
    held = await outbox.load(claimed.delivery_id)

    settled = [
        await outbox.do(lambda conn: deliveries.settle(conn, held, state=DELIVERED))
        for _ in range(2)
    ]

    assert settled == [True, False]


async def test_going_before_the_workers_is_not_going_before_what_is_settled(
    outbox: Outbox,
) -> None:
    await outbox.add("a")
    (claimed,) = await outbox.claim()
    held = await outbox.load(claimed.delivery_id)

    settled = [
        await outbox.do(lambda conn: deliveries.settle(conn, held, any_lease=True, state=DELIVERED))
        for _ in range(2)
    ]

    assert settled == [True, False]


async def test_the_recipients_with_something_due_are_named_once_each(outbox: Outbox) -> None:
    await outbox.add("a", RECIPIENT, OTHER)
    await outbox.add("b")

    due = await outbox.store.read(lambda conn: deliveries.due_recipients(conn, T0))
    early = await outbox.store.read(lambda conn: deliveries.due_recipients(conn, T0 - 1))

    assert sorted(due) == sorted([RECIPIENT, OTHER])
    assert early == []


async def test_what_is_held_is_not_due(outbox: Outbox) -> None:
    await outbox.add("a")
    await outbox.claim()

    due = await outbox.store.read(lambda conn: deliveries.due_recipients(conn, T0))
    later = await outbox.store.read(lambda conn: deliveries.due_recipients(conn, T0 + LEASE))

    assert (due, later) == ([], [RECIPIENT])


async def test_a_delivery_is_overdue_from_its_expiry_on_unless_it_is_held_or_closed(
    outbox: Outbox,
) -> None:
    await outbox.add("a")
    (claimed,) = await outbox.claim()
    expiry = (await outbox.load(claimed.delivery_id)).expires_at

    async def overdue(now: int) -> list[str]:
        return await outbox.store.read(lambda conn: deliveries.overdue(conn, now, 10))

    assert await overdue(expiry - 1) == []
    assert await overdue(expiry) == [claimed.delivery_id]
    await outbox.claim(now=expiry - 1)
    assert await overdue(expiry) == []
    await outbox.do(
        lambda conn: conn.execute(update(delivery).values(lease_until=None, closed_at=expiry))
    )
    assert await overdue(expiry) == []


async def test_a_refused_recipient_has_no_delivery_and_cannot_tell_that_there_was_a_message(
    outbox: Outbox,
) -> None:
    made = submission(
        verdicts=(RecipientVerdict(RECIPIENT, PERMITTED), RecipientVerdict(OTHER, REFUSED))
    )
    await outbox.store.submit(made)

    async def view(*agencies: AgencyId) -> dict[str, object] | None:
        return await outbox.store.read(
            lambda conn: delivery_views.message_view(conn, made.submission_id, frozenset(agencies))
        )

    assert await outbox.claim(to=OTHER) == []
    assert await view(OTHER) is None
    assert await view(AgencyId("hylton-school")) is None
    of_sender, of_recipient = await view(SENDER), await view(RECIPIENT)
    assert of_sender is not None
    assert of_recipient is not None
    assert {row["recipient"]: row["decision"] for row in of_sender["recipients"]} == {  # type: ignore[attr-defined]
        RECIPIENT: "PERMITTED",
        OTHER: "REFUSED",
    }
    assert [row["recipient"] for row in of_recipient["recipients"]] == [RECIPIENT]  # type: ignore[attr-defined]


async def test_the_signer_of_a_message_is_found_in_the_ledger(outbox: Outbox) -> None:
    submission_id = await outbox.add("a")

    async def signer(of: str) -> str | None:
        return await outbox.store.read(lambda conn: deliveries.signer(conn, of))  # type: ignore[arg-type]

    assert await signer(submission_id) == "5" * 64
    assert await signer("00000000-0000-0000-0000-000000000000") is None


async def test_nothing_is_loaded_under_an_id_that_is_not_there(outbox: Outbox) -> None:
    assert await outbox.store.read(lambda conn: deliveries.load(conn, "none")) is None


async def test_what_is_urgent_goes_before_what_has_waited_less_than_its_head_start(
    outbox: Outbox,
) -> None:
    for number, (priority, late_ms) in enumerate(
        [("ROUTINE", 0), ("ROUTINE", 3_700_000), ("URGENT", 3_700_001), ("IMMEDIATE", 3_700_002)]
    ):
        await outbox.add(f"{number}" * 32, priority=priority, late_ms=late_ms)

    order = []
    for _ in range(4):
        (claimed,) = await outbox.claim(now=T0 + 4_000_000, limit=1)
        order.append(claimed.order_key[0])

    assert order == ["3", "0", "2", "1"]


async def test_urgency_does_not_change_the_order_about_one_person(outbox: Outbox) -> None:
    first = await outbox.add("a" * 32)
    await outbox.add("a" * 32, priority="IMMEDIATE", late_ms=1)

    (claimed,) = await outbox.claim(now=T0 + 10)

    assert (await outbox.load(claimed.delivery_id)).submission_id == first

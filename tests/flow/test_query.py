"""A question to several agencies: each answer is a message of its own, under its own clause."""

from pathlib import Path

import pytest

from adapters.contract import Delivered, RetryLater
from broker.core.envelope import parse
from broker.core.errors import Rejection
from broker.core.identity import AgencyId
from broker.core.reasons import Reason
from broker.edge.answers import Answer, find, unanswered
from broker.edge.intake import Submitted
from tests.flow.delivery_world import CSC, HR, POLICE, PORTAL, SCHOOL, YOT, World, world

ASKED = (CSC, POLICE, SCHOOL)


async def question(w: World) -> Submitted:
    sent = await w.send("YOTCheckRequest", YOT, *ASKED)
    await w.settle()
    return sent


async def reply(w: World, to: Submitted, sender: AgencyId, *, seed: int = 1) -> Submitted:
    return await w.send(
        "YOTCheckResponse", sender, YOT, seed=seed, correlation_id=to.header.message_id
    )


async def answers(w: World, to: Submitted) -> list[Answer]:
    return await w.store.read(lambda conn: find(conn, to.header.message_id, YOT, ASKED))


async def test_one_question_goes_to_each_agency_under_its_own_clause(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        council, school = w.push_to(CSC), w.push_to(SCHOOL)
        await question(w)

        assert not council.given[0].reduced
        assert school.given[0].reduced  # a school need not know how far a case has gone
        assert parse(school.given[0].body).find(".//{*}Stage") is None
        assert council.given[0].delivery_id != school.given[0].delivery_id


async def test_an_agency_that_cannot_be_reached_holds_no_other_up(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        council, police = w.push_to(CSC), w.push_to(POLICE)
        council.answer(RetryLater(Reason.RECIPIENT_UNREACHABLE), Delivered())
        sent = await question(w)

        states = {name: row["state"] for name, row in (await w.rows(sent)).items()}
        assert states == {CSC: "pending", POLICE: "delivered", SCHOOL: "available"}
        assert len(police.given) == 1


async def test_what_came_and_who_did_not_answer_is_known(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        sent = await question(w)
        await reply(w, sent, CSC)

        found = await answers(w, sent)

        assert [one.sender for one in found] == [CSC]
        assert unanswered(ASKED, found) == (SCHOOL, POLICE)


async def test_an_answer_is_minimised_for_who_asked(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        sent = await question(w)
        await reply(w, sent, POLICE)
        (found,) = await answers(w, sent)

        disclosed = await w.service.disclose(found.delivery_id, YOT)

        assert disclosed.reduced
        assert parse(disclosed.body).find(".//{*}ParentalResponsibilityHolder") is None


async def test_nobody_collects_an_answer_to_anothers_question(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        sent = await question(w)
        await reply(w, sent, CSC)
        (found,) = await answers(w, sent)

        for other in (CSC, POLICE, HR):
            with pytest.raises(Rejection):
                await w.service.disclose(found.delivery_id, other)


async def test_the_correlation_of_a_question_in_a_message_of_somebody_else_is_no_answer(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        sent = await question(w)
        await w.send("VacancyPublished", HR, PORTAL, correlation_id=sent.header.message_id)

        assert await answers(w, sent) == []

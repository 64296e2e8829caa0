"""A person of whom the broker holds much, and questions about that person and about strangers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lxml import etree

from broker.core.identity import AgencyId
from tests.flow.journey import (
    CHILD,
    CSC,
    HEALTH,
    INDEX,
    POLICE,
    SCHOOL,
    Journey,
    Sent,
    consent,
    sample,
    withdrawal,
)

STRANGER = 5000  # from here on no sample is about anybody of whom the broker has heard


@dataclass(frozen=True, slots=True)
class Question:
    """What an agency sends whose answer must be the same for whomever it is about."""

    name: str
    sender: AgencyId
    recipient: AgencyId
    message_type: str
    purpose: str

    def about(self, person: int) -> etree._Element:
        """Return one that differs in the person alone."""
        own, asked = (sample(self.message_type, person=one) for one in (CHILD, person))
        place = own.find("{*}Subject")
        there = asked.find("{*}Subject")
        assert place is not None
        assert there is not None
        own.replace(place, there)
        return own


QUESTIONS: Sequence[Question] = (
    Question("index", SCHOOL, INDEX, "WhoElseQuery", "INDEX"),
    Question("worry", SCHOOL, CSC, "Referral", "CP"),
    Question("not agreed", POLICE, INDEX, "WhoElseQuery", "YJ"),
)
each: Callable[[Question], str] = lambda question: question.name  # noqa: E731 - for parametrize


async def make_known(j: Journey, records: int) -> None:
    """Let the broker hear of the child: consents given and taken back, messages, worries."""
    for number in range(records):
        given = await consent(j, HEALTH)
        if number % 2:
            await withdrawal(j, HEALTH, given)
        await j.send(SCHOOL, sample("Referral"), CSC, purpose="CP")


async def ask(j: Journey, question: Question, person: int) -> Sent:
    """Ask about ``person``."""
    return await j.send(
        question.sender, question.about(person), question.recipient, purpose=question.purpose
    )

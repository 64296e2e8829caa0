"""No answer says whether a person is known: it is the same but for its ids, times and seals."""

import re
from pathlib import Path

import orjson
import pytest

from tests.flow.journey import CHILD, journey
from tests.flow.known import QUESTIONS, STRANGER, Question, ask, each, make_known

# What differs between any two answers, whomever they are about.
OWN = re.compile(
    rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"  # an id
    rb"|[0-9a-f]{64}|[0-9a-f]{32}"  # a digest, a trace
    rb"|[A-Za-z0-9+/_-]{80,}={0,2}"  # a signature
)
PLACE = re.compile(rb'"sequence":\d+')  # in the ledger of everything


def bare(answer: bytes) -> bytes:
    return PLACE.sub(b'"sequence":*', OWN.sub(b"*", answer))


@pytest.mark.parametrize("question", QUESTIONS, ids=each)
async def test_an_answer_is_the_same_for_whoever_it_is_about(
    tmp_path: Path, question: Question
) -> None:
    async with journey(tmp_path) as j:
        await make_known(j, 4)

        known = await ask(j, question, CHILD)
        stranger = await ask(j, question, STRANGER)

    assert known.answer.status_code == stranger.answer.status_code
    assert orjson.loads(known.answer.content)
    assert bare(known.answer.content) == bare(stranger.answer.content)
    assert set(known.answer.headers) == set(stranger.answer.headers)

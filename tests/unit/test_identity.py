"""Names are compared as people read them."""

import pytest

from broker.core.identity import agency_id, folded


@pytest.mark.parametrize(
    "text",
    [
        "P-1",
        "p-1",
        " P-1",
        "P-1\t",
        "\N{FULLWIDTH LATIN CAPITAL LETTER P}-1",
        "P\N{FULLWIDTH HYPHEN-MINUS}1",
    ],
)
def test_one_name_is_one_however_it_is_written(text: str) -> None:
    assert folded(text) == "p-1"


def test_two_names_stay_two() -> None:
    assert len({folded(one) for one in ("P-1", "P-2", "P 1", "P1", "\u0420-1")}) == 5


@pytest.mark.parametrize("text", ["abc", "a-1", "0" * 64])
def test_an_agency_id_is_what_was_given(text: str) -> None:
    assert agency_id(text) == text


@pytest.mark.parametrize("text", ["", "ab", "0" * 65, "-ab", "ab-", "ABC", "a.c", "abc\n"])
def test_what_is_no_agency_id_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="an agency id is") as refused:
        agency_id(text)

    assert not text or text not in str(refused.value)

"""Names are compared as people read them."""

import pytest

from broker.core.identity import folded


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

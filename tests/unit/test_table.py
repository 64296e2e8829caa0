"""A register file is read strictly, and every mistake names its place and its cure."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from broker.core.reasons import Reason
from broker.core.table import Mistake, Table, london_midnight


def reading(**content: Any) -> Table:
    return Table(content, "a.toml", "flow 2")


@pytest.mark.parametrize(
    ("day", "instant"),
    [
        (date(2026, 3, 29), datetime(2026, 3, 29, 0, tzinfo=UTC)),  # clocks change at 01:00
        (date(2026, 3, 30), datetime(2026, 3, 29, 23, tzinfo=UTC)),
        (date(2026, 10, 25), datetime(2026, 10, 24, 23, tzinfo=UTC)),
        (date(2026, 10, 26), datetime(2026, 10, 26, 0, tzinfo=UTC)),
        (date(2026, 1, 1), datetime(2026, 1, 1, 0, tzinfo=UTC)),
        (date(2024, 3, 31), datetime(2024, 3, 31, 0, tzinfo=UTC)),  # the last day of March
        (date(2024, 4, 1), datetime(2024, 3, 31, 23, tzinfo=UTC)),
    ],
)
def test_a_day_begins_at_midnight_in_london(day: date, instant: datetime) -> None:
    assert london_midnight(day) == instant


def test_a_mistake_names_file_table_key_and_cure() -> None:
    with pytest.raises(Mistake) as caught:
        reading().text("purpose")

    assert caught.value.detail == "a.toml, [flow 2], purpose: this key is missing"
    assert caught.value.reason is Reason.REGISTER_UNAVAILABLE


def test_an_unknown_key_is_refused_and_the_nearest_known_one_offered() -> None:
    table = reading(purpos=1)
    table.has("purposes")
    table.has("frequency")

    with pytest.raises(Mistake, match="did you mean purposes"):
        table.close()


def test_an_unknown_key_like_no_other_is_told_what_is_known() -> None:
    table = reading(zzz=1)
    table.has("purposes")
    table.has("frequency")

    with pytest.raises(Mistake, match="the keys here are frequency, purposes"):
        table.close()


def test_a_table_of_known_keys_closes() -> None:
    table = reading(title="x")
    assert table.text("title") == "x"
    table.close()


@pytest.mark.parametrize("value", ["", "  ", 3, ["x"]])
def test_a_text_is_a_text_that_is_not_blank(value: object) -> None:
    with pytest.raises(Mistake, match="quotation marks"):
        reading(k=value).text("k")
    assert reading().text("k", "") == ""


@pytest.mark.parametrize("value", ["YJ", ["YJ", 3], []])
def test_a_list_is_one_of_texts_and_not_empty(value: object) -> None:
    with pytest.raises(Mistake, match="list of texts"):
        reading(k=value).texts("k")


@pytest.mark.parametrize("value", ["a b", "<b>", "-a", "a" * 65, "\u00e9"])
def test_an_identifier_can_stand_in_a_message_and_in_a_file_name(value: str) -> None:
    assert reading(k="ne-yot.1").identifier("k") == "ne-yot.1"
    with pytest.raises(Mistake, match="write 1 to 64 of"):
        reading(k=value).identifier("k")


def test_a_list_has_no_repeats_and_may_have_a_default() -> None:
    assert reading(k=["a", "b"]).texts("k") == ("a", "b")
    assert reading().texts("k", ()) == ()
    with pytest.raises(Mistake, match="repeated"):
        reading(k=["a", "a"]).texts("k")


def test_a_choice_is_one_of_those_allowed() -> None:
    assert reading(k="MASK").choice("k", {"MASK", "HASH"}) == "MASK"
    assert reading().choice("k", {"MASK"}, "") == ""
    with pytest.raises(Mistake, match="'MASKED' is not known: did you mean MASK"):
        reading(k="MASKED").choice("k", {"MASK", "HASH"})
    with pytest.raises(Mistake, match="write one of HASH, MASK"):
        reading(k="x").choice("k", {"MASK", "HASH"})


def test_choices_are_all_among_those_allowed() -> None:
    assert reading(k=["a"]).choices("k", {"a"}) == ("a",)
    with pytest.raises(Mistake, match="'q' is not known"):
        reading(k=["a", "q"]).choices("k", {"a"})


@pytest.mark.parametrize("value", ["true", 1])
def test_a_flag_is_true_or_false(value: object) -> None:
    assert reading(k=True).flag("k") is True
    assert reading().flag("k", default=False) is False
    with pytest.raises(Mistake, match="true or false"):
        reading(k=value).flag("k")


@pytest.mark.parametrize("value", [0, True, "1"])
def test_a_number_is_whole_and_large_enough(value: object) -> None:
    assert reading(k=1).number("k", 1) == 1
    with pytest.raises(Mistake, match="1 or more"):
        reading(k=value).number("k", 1)


@pytest.mark.parametrize("value", ["2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)])
def test_a_day_is_a_date_without_a_time(value: object) -> None:
    with pytest.raises(Mistake, match="such as 2027-03-31"):
        reading(k=value).day("k")


def test_days_begin_and_end_or_are_not_given() -> None:
    table = reading(k=date(2026, 1, 1))

    assert table.day_begins("k") == datetime(2026, 1, 1, tzinfo=UTC)
    assert table.day_ends("k") == datetime(2026, 1, 2, tzinfo=UTC)
    assert table.day_begins("none") is None
    assert table.day_ends("none") is None


def test_an_instant_has_an_offset_and_is_held_in_utc() -> None:
    east = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))

    assert reading(k=east).instant("k").utcoffset() == timedelta(0)
    assert reading(k=east).instant("k") == datetime(2026, 1, 1, tzinfo=UTC)
    for value in (datetime(2026, 1, 1), "now"):  # noqa: DTZ001 - naive on purpose
        with pytest.raises(Mistake, match="such as 2027"):
            reading(k=value).instant("k")


def test_tables_are_named_by_their_place() -> None:
    table = reading(item=[{}, {"a": 1}], security={"b": 2})

    assert [one.name for one in table.tables("item")] == ["flow 2.item 1", "flow 2.item 2"]
    assert table.table("security").name == "flow 2.security"
    assert Table({"flow": [{}]}, "f").tables("flow")[0].name == "flow 1"
    assert reading().table("security", optional=True).content == {}
    assert reading().tables("item", optional=True) == ()


@pytest.mark.parametrize("value", [{}, [], ["x"], "x"])
def test_tables_are_written_in_double_brackets(value: object) -> None:
    with pytest.raises(Mistake, match=r"headed \[\[flow 2.item\]\]"):
        reading(item=value).tables("item")


def test_a_table_is_written_in_single_brackets() -> None:
    with pytest.raises(Mistake, match=r"headed \[flow 2.k\]"):
        reading(k="x").table("k")

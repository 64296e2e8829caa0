from lxml import etree

from broker.core.narrowing import still_forbidden, values_of


def payload(*parts: str) -> etree._Element:
    return etree.fromstring(f'<Message xmlns="urn:test">{"".join(parts)}</Message>')


NAME, PHONE = "<Name>Amy</Name>", "<Contact><Phone>1</Phone></Contact>"
ALL = payload(NAME, PHONE)


def forbidden(then: etree._Element, now: etree._Element) -> list[str]:
    rules = still_forbidden(ALL, then, now)
    assert all(rule.include == "FORBIDDEN" for rule in rules)
    return [rule.target for rule in rules]


def test_what_was_shown_then_and_is_shown_now_is_not_forbidden() -> None:
    assert forbidden(ALL, ALL) == []


def test_what_was_removed_then_and_would_be_shown_now_is_forbidden() -> None:
    assert forbidden(payload(PHONE), ALL) == ["Name"]
    assert forbidden(payload(NAME), ALL) == ["Contact/Phone"]


def test_what_was_masked_then_and_would_be_shown_plainly_now_is_forbidden() -> None:
    assert forbidden(payload("<Name>***</Name>", PHONE), ALL) == ["Name"]


def test_what_is_masked_now_as_it_was_then_is_not_forbidden() -> None:
    masked = payload("<Name>***</Name>", PHONE)

    assert forbidden(masked, masked) == []


def test_what_is_withheld_only_now_needs_no_further_rule() -> None:
    assert forbidden(ALL, payload(PHONE)) == []
    assert forbidden(ALL, payload("<Name>***</Name>", PHONE)) == []


def test_what_was_removed_then_and_would_be_masked_now_is_forbidden() -> None:
    assert forbidden(payload(PHONE), payload("<Name>***</Name>", PHONE)) == ["Name"]


def test_one_of_several_that_was_withheld_forbids_them_all() -> None:
    both = payload("<Name>Amy</Name>", "<Name>Bo</Name>")

    (rule,) = still_forbidden(both, payload("<Name>Amy</Name>"), both)
    assert rule.target == "Name"


def test_values_are_found_by_path_in_their_order_and_an_empty_element_has_one() -> None:
    found = values_of(payload("<A><B>1</B><B>2</B></A>", "<C/>"))

    assert found == {"A/B": ["1", "2"], "C": [""]}

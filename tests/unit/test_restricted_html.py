import pytest

from broker.core.restricted_html import html_fault


@pytest.mark.parametrize(
    "text",
    [
        "Plain text, 3 > 2 & more.",
        "<p><strong>A</strong><br>b<br/><br /></p>",
        '<ul><li><a href="https://jobs.example/x?y=1&amp;z=2">A</a></li></ul>',
        '<ol><li><em><u>A</u></em></li></ol><a href="mailto:jobs@x.example">B</a>',
        "&lt;script&gt; is text",
    ],
)
def test_the_tags_of_an_advertisement_may_be_used(text: str) -> None:
    assert html_fault(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<P>A</P>",
        '<p class="x">A</p>',
        "<p onclick=x>A</p>",
        "<img src=x>",
        "<!-- A -->",
        "<p/>",
        "</br>",
        "a < b",
        "<p",
        "<p <b>>A</p>",
        "<svg/onload=x>",
        '<a href="javascript:alert(1)">A</a>',
        '<a href="&#106;avascript:alert(1)">A</a>',
        '<a href=" https://x.example">A</a>',
        '<a href="https://x.example" target="_blank">A</a>',
        "<a href='https://x.example'>A</a>",
        '<a href="https://">A</a>',
        '<a href="data:text/html,x">A</a>',
        "<a>A</a>",
    ],
)
def test_no_other_tag_attribute_or_link_may_be_used(text: str) -> None:
    assert html_fault(text) is not None


@pytest.mark.parametrize("text", ["<p>A", "<p><em>A</p></em>", "A</p>", "</a>", "<ul><li>A</ul>"])
def test_tags_are_closed_in_order(text: str) -> None:
    assert html_fault(text) in (
        "a tag that is not closed",
        "a tag that is closed where it was not opened",
    )


def test_a_fault_does_not_repeat_the_text() -> None:
    assert "canary" not in str(html_fault("<canary>"))

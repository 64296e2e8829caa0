import pytest

from broker.core.catalogue import parse_catalogue

GOOD = """
published = ["x/1.0"]
[document.Envelope."1.0"]
namespace = "urn:e"
file = "e.xsd"
[message.Ask."1.0"]
namespace = "urn:x"
file = "x.xsd"
family = "x"
root = "Ask"
pattern = "request"
subject_path = "Subject"
purposes = ["CP"]
[message.Answer."1.0"]
namespace = "urn:x"
file = "x.xsd"
family = "x"
pattern = "response"
response_to = ["Ask"]
purposes = ["CP"]
[sha256]
"e.xsd" = "00"
"x.xsd" = "11"
"""


def test_a_catalogue_says_where_each_message_type_is() -> None:
    catalogue = parse_catalogue(GOOD)

    ask = catalogue.messages["Ask", "1.0"]
    assert ask.tag == "{urn:x}Ask"
    assert (ask.file, ask.pattern, ask.subject_path) == ("x.xsd", "request", "Subject")
    assert catalogue.messages["Answer", "1.0"].response_to == ("Ask",)
    assert catalogue.documents["Envelope", "1.0"].namespace == "urn:e"
    assert catalogue.published == {"x/1.0"}
    assert catalogue.sha256 == {"e.xsd": "00", "x.xsd": "11"}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("published", "publisher", "a catalogue has"),
        ('"x.xsd" = "11"', "", "a file without a digest"),
        ('root = "Ask"', 'root = "Asks"', "named as the message type"),
        ('subject_path = "Subject"', 'about = "Subject"', "not known"),
        ('file = "x.xsd"\nfamily = "x"\nroot', 'family = "x"\nroot', "missing"),
        ('family = "x"\nroot', 'family = ""\nroot', "family and purposes"),
        ('purposes = ["CP"]', "purposes = []", "family and purposes"),
        ('pattern = "request"', 'pattern = "query"', "pattern is one of"),
        ('response_to = ["Ask"]', "", "says what it responds to"),
        (
            'pattern = "request"',
            'pattern = "request"\nresponse_to = ["Ask"]',
            "says what it responds to",
        ),
        ('response_to = ["Ask"]', 'response_to = ["Tell"]', "not in the catalogue"),
        ("[sha256]", "[sha256", "Expected|Invalid"),
    ],
)
def test_a_catalogue_that_is_incomplete_or_contradicts_itself_is_refused(
    old: str, new: str, words: str
) -> None:
    assert old in GOOD

    with pytest.raises(ValueError, match=words):
        parse_catalogue(GOOD.replace(old, new, 1))

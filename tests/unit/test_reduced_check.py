"""A recipient checks what is left of a message, and finds every tampering."""

from hashlib import sha256

import pytest
from lxml import etree

from broker.core.reduced_check import check_against, check_reduced
from tests.unit.test_minimise import PAYLOAD, SECRET, E, reduced, root_of, rules

FIELDS = (
    *rules("Ref", "Child/Address"),
    *rules("Child/Name", transform="MASK"),
    *rules("Child/BirthDate", transform="GENERALISE"),
)
DIGEST = (b"\x01" * 32).hex()
ORIGINAL = etree.fromstring(PAYLOAD)


def left() -> etree._Element:
    return root_of(reduced(FIELDS))


def element(root: etree._Element, name: str) -> etree._Element:
    found = root.find(f"{E}Payload//{{urn:x}}{name}")
    assert found is not None
    return found


def test_what_was_not_touched_is_proven_value_by_value() -> None:
    found = check_reduced(left())

    assert found.faults == ()
    assert found.proven == (
        "Ref",
        "Child/Address/Line[1]",
        "Child/Address/Line[2]",
        "Child/Address/PostCode",
        "Child/Address/UPRN",
    )
    assert dict(found.withheld) == {
        "Child/Name": "MASKED",
        "Child/BirthDate": "GENERALISED",
        "Health": "REMOVED",
    }
    assert found.original_digest == DIGEST


def test_a_value_that_was_changed_on_the_way_is_found() -> None:
    root = left()
    element(root, "PostCode").text = "SR5 9ZZ"

    assert check_reduced(root).faults == (
        "Child/Address/PostCode: not what its digest says",
        "Child/Address/PostCode: has a digest and is not there",
    )


def test_a_value_that_was_taken_out_or_put_in_is_found() -> None:
    root = left()
    gone = element(root, "UPRN")
    parent = gone.getparent()
    assert parent is not None
    parent.remove(gone)
    etree.SubElement(parent, "{urn:x}Town").text = "Sunderland"

    assert set(check_reduced(root).faults) == {
        "Child/Address/Town: not what its digest says",
        "Child/Address/UPRN: has a digest and is not there",
    }


def test_two_values_of_one_name_cannot_stand_in_for_each_other() -> None:
    root = left()
    element(root, "Line").text = "Hylton"  # the text of the second line

    assert len(check_reduced(root).faults) == 2


def test_the_original_proves_that_nothing_was_made_up() -> None:
    assert check_against(left(), ORIGINAL, DIGEST) == ()
    assert check_against(left(), ORIGINAL, "00" * 32) == ("it was made from another message",)
    other = etree.fromstring(PAYLOAD.replace("R-1", "R-2"))
    assert check_against(left(), other, DIGEST) == ("Ref: not what the sender signed",)


def test_a_commitment_to_what_the_sender_never_sent_is_found() -> None:
    root = left()
    reduction = root.find(f"{E}Reduction")
    assert reduction is not None
    salt = "ab" * 16
    digest = sha256(bytes.fromhex(salt) + b"Extra" + b"x").hexdigest()
    leaf = etree.SubElement(reduction, f"{E}Leaf")
    for name, text in (("Path", "Extra"), ("Salt", salt), ("Digest", digest)):
        etree.SubElement(leaf, f"{E}{name}").text = text
    etree.SubElement(root[1][0], "{urn:x}Extra").text = "x"

    assert check_reduced(root).faults == ()  # only the broker's signature speaks for it
    assert check_against(root, ORIGINAL, DIGEST) == ("Extra: not in the original",)


@pytest.mark.parametrize("strip", [True, False])
def test_of_what_must_not_be_known_nothing_is_asked(strip: bool) -> None:  # noqa: FBT001
    payload = PAYLOAD.replace("</Check>", SECRET)
    root = root_of(reduced(rules("Ref"), payload, strip_location=strip))

    assert check_reduced(root).faults == ()
    assert check_against(root, etree.fromstring(payload), DIGEST) == ()


@pytest.mark.parametrize("transform", ["NONE", "MASK", "GENERALISE", "HASH"])
def test_what_is_shown_of_a_sensitive_service_is_proven_or_said_to_be_changed(
    transform: str,
) -> None:
    shown = rules("category:sensitive-involvement", transform=transform)
    root = root_of(reduced((*FIELDS, *shown), PAYLOAD.replace("</Check>", SECRET)))

    found = check_reduced(root)

    assert found.faults == ()
    assert ("Secret/Service" in found.proven) is (transform == "NONE")
    told = any(path.startswith("Secret") for path, _ in found.withheld)
    assert told is (transform in ("MASK", "HASH"))  # a name has no general form: it is gone

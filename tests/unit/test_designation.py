"""The first person who signs for an agency is named with the agency's own registered key."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from broker.core.agency import Agency
from broker.core.designation import confirmed, require_registered
from broker.core.identity import AgencyId
from broker.core.policy_log import Act, designation
from broker.core.table import Mistake
from tests.unit.policy_world import CSC
from tests.unit.signatories import START, Desk, agency_of, by_agency, person


def named(party: str = "csc", **more: Any) -> Desk:
    """A desk where the agency names one person, in its own way."""
    desk = Desk()
    detail = designation(person(party)[1], "A person", "Head")
    desk.act("designate", party, **{**detail, "confirm": by_agency(party), **more})
    return desk


def require(desk: Desk, since: int = 0, **changed: Any) -> None:
    held = desk.in_force()
    agencies = dict(held.register.agencies)
    if changed:
        agencies[CSC] = replace(agencies[CSC], **changed)
    require_registered(held.policy.firsts, agencies, since)


def keys(**changed: Any) -> dict[str, Any]:
    own: Agency = Desk().in_force().register.agencies[CSC]
    return {"keys": tuple(replace(key, **changed) for key in own.keys)}


def test_the_agency_names_its_first_person_with_the_key_of_its_messages() -> None:
    desk = named()

    require(desk)

    assert [str(act.party) for act in desk.in_force().policy.people.values()] == ["csc"]


def test_nobody_signs_for_an_agency_that_has_not_said_so() -> None:
    with pytest.raises(Mistake, match="confirmed by csc, with the key of its messages"):
        named(confirm=lambda act: act).in_force()


@pytest.mark.parametrize("who", ["yot", "operator"])
def test_another_key_names_nobody(who: str) -> None:
    with pytest.raises(Mistake, match="no signing certificate registered for csc"):
        require(named(confirm=by_agency(who)))


def changed_after(**values: Any) -> Callable[[Act], Act]:
    """Return what the agency says of another naming than the one that comes."""

    def confirm(act: Act) -> Act:
        other = confirmed(replace(act, **values), *agency_of("csc"))
        brought = {key: value for key, value in other.detail.items() if key.startswith("agency_")}
        return replace(act, detail={**act.detail, **brought})

    return confirm


@pytest.mark.parametrize(
    "values",
    [
        {"person": "ab"},
        {"party": AgencyId("yot")},
        {"at": START + timedelta(days=1)},
        {"detail": {"name": "Another"}},
    ],
    ids=["person", "agency", "instant", "name"],
)
def test_what_the_agency_said_of_another_naming_does_not_count(values: dict[str, Any]) -> None:
    with pytest.raises(Mistake, match="confirmed by csc"):
        named(confirm=changed_after(**values)).in_force()


@pytest.mark.parametrize(
    "brought",
    [
        {"agency_certificate": ""},
        {"agency_certificate": "eHg="},
        {"agency_signature": ""},
        {"agency_signature": "a.b"},
        {"agency_certificate": designation(person("other")[1], "", "")["certificate"]},
    ],
    ids=["no certificate", "not a certificate", "no signature", "not one", "of another"],
)
def test_what_cannot_be_checked_does_not_count(brought: dict[str, str]) -> None:
    def confirm(act: Act) -> Act:
        done = confirmed(act, *agency_of("csc"))
        return replace(done, detail={**done.detail, **brought})

    with pytest.raises(Mistake, match="confirmed by csc"):
        named(confirm=confirm).in_force()


@pytest.mark.parametrize(
    "changed",
    [
        {"keys": ()},
        keys(revoked_at=START),
        keys(valid_until=START),
        keys(valid_from=START + timedelta(seconds=1)),
    ],
    ids=["none", "revoked", "ended", "not yet"],
)
def test_the_key_was_registered_and_good_when_it_named_somebody(changed: dict[str, Any]) -> None:
    desk = named()

    with pytest.raises(Mistake, match=r"\[line 1\]: .*registered for csc, or was not good then"):
        require(desk, **changed)
    require(desk, since=1, **changed)  # seen when it came: keys go out of use


def test_an_agency_that_is_not_registered_names_nobody() -> None:
    desk = named()

    with pytest.raises(Mistake, match="registered for csc"):
        require_registered(desk.in_force().policy.firsts, {}, 0)


def test_when_nobody_is_left_the_agency_says_again_who_signs() -> None:
    desk = named()
    desk.act("withdraw", "csc", person=desk.acts[0].person)
    desk.designate("csc", "second")
    assert [one.act.number for one in desk.in_force().policy.firsts] == [1, 3]

    desk.acts.pop()
    desk.act("designate", "csc", by="second", **designation(person("second")[1], "x", "y"))
    with pytest.raises(Mistake, match="confirmed by csc"):
        desk.in_force()

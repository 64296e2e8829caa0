"""Invented people and practitioners. NHS numbers lie in the range 999, which is never issued."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from hashlib import sha256
from itertools import count
from typing import TypeVar

from broker.core.identifiers import nhs_number_valid, upn_valid
from broker.core.samples.tree import Tree, flag

T = TypeVar("T")

_FAMILY_NAMES = (
    "O'Brien", "Müller", "Armstrong", "Nowak", "Robson", "Ødegård", "Charlton", "李", "Begum",
    "García-López", "Thompson", "Okonkwo", "Şahin", "Fenwick", "Łukaszewska", "Dodds",
)  # fmt: skip
_GIVEN_NAMES = (
    ("Zoë", "F"), ("Jayden", "M"), ("Aisha", "F"), ("Connor", "M"), ("Siân", "F"), ("Tomasz", "M"),
    ("明", "M"), ("Ngozi", "F"), ("Ellie-Mae", "F"), ("Karim", "M"), ("Seán", "M"), ("Chloé", "F"),
)  # fmt: skip
_STREETS = (
    "Roker Avenue", "Durham Road", "Coatsworth Road", "Fulwell Mews", "Saltwell View",
    "Hylton Castle Road", "Chester Road", "Bensham Bank",
)  # fmt: skip
_TOWNS = (("Sunderland", "SR"), ("Gateshead", "NE"), ("Houghton-le-Spring", "DH"))
_POST_LETTERS = "ABDEFGHJLNPQRSTUWXYZ"
_UPN_LETTERS = "ABCDEFGHJKLMNPQRTUVWXYZ"


class Dice:
    """Choices that a seed fixes once and for all, on every machine and Python version."""

    def __init__(self, seed: str) -> None:
        self._throws = (sha256(f"{seed}:{throw}".encode()).digest() for throw in count())

    def number(self, low: int, high: int) -> int:
        """Return a whole number, both ends included."""
        return low + int.from_bytes(next(self._throws)[:8]) % (high - low + 1)

    def pick(self, options: Sequence[T]) -> T:
        """Return one of ``options``."""
        return options[self.number(0, len(options) - 1)]

    def some(self, options: Sequence[T]) -> list[T]:
        """Return one or more of ``options``, each once, in their order."""
        sure = self.number(0, len(options) - 1)
        return [one for place, one in enumerate(options) if place == sure or self.chance(50)]

    def chance(self, percent: int) -> bool:
        """Return true ``percent`` times in a hundred."""
        return self.number(1, 100) <= percent


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody invented."""

    family_name: str
    given_name: str
    gender: str
    birth_date: date
    nhs_number: str
    upn: str
    address: Tree
    index_number: str


def person(seed: int, today: date, *, adult: bool = False) -> Person:
    """Return the invented person of that number, aged 5 to 17, or 25 to 60, on ``today``."""
    dice = Dice(f"person:{seed}")
    given, gender = dice.pick(_GIVEN_NAMES)
    years = dice.number(25, 60) if adult else dice.number(5, 16)
    return Person(
        family_name=dice.pick(_FAMILY_NAMES),
        given_name=given,
        gender=gender,
        birth_date=today - timedelta(days=years * 365 + dice.number(40, 360)),
        nhs_number=_nhs_number(dice),
        upn=_upn(dice),
        address=("Address", address_parts(dice)),
        index_number=f"IX-{seed:06d}",
    )


def _nhs_number(dice: Dice) -> str:
    # One body in eleven has no check digit; then the next one is taken.
    bodies = (f"999{number % 1_000_000:06d}" for number in count(dice.number(0, 999_999)))
    numbers = (f"{body}{check}" for body in bodies for check in range(10))
    return next(number for number in numbers if nhs_number_valid(number))


def _upn(dice: Dice) -> str:
    body = f"394{dice.number(2000, 2999)}{dice.number(18, 25)}{dice.number(1, 999):03d}"[:12]
    body = body.ljust(12, "0")
    return next(letter + body for letter in _UPN_LETTERS if upn_valid(letter + body))


def address_parts(dice: Dice) -> list[Tree]:
    """Return the content of an invented address: two in three BS 7666, the rest in lines."""
    street, (town, area) = dice.pick(_STREETS), dice.pick(_TOWNS)
    number = str(dice.number(1, 180))
    letters = dice.pick(_POST_LETTERS) + dice.pick(_POST_LETTERS)
    tail: list[Tree] = [
        ("PostCode", f"{area}{dice.number(1, 9)} {dice.number(1, 9)}{letters}"),
        ("UPRN", str(dice.number(100_000_000, 999_999_999))),
    ]
    if dice.chance(33):
        return [("Line", f"{number} {street}"), ("Line", town), *tail]
    flat: list[Tree] = [("SAON", [("Description", "Flat 2")])] if dice.chance(25) else []
    paon: Tree = ("PAON", [("StartRange", [("Number", number)])])
    return [*flat, paon, ("Street", street), ("Town", town), *tail]


def name_parts(who: Person) -> list[Tree]:
    """Return the content of a PersonName."""
    return [("GivenName", who.given_name), ("FamilyName", who.family_name)]


def subject(who: Person, dice: Dice) -> Tree:
    """Return ``who`` as the Subject of a message; one in ten without an NHS number."""
    known = not dice.chance(10)
    identifier: Tree = (
        ("NHSNumber", who.nhs_number) if known else ("OmissionReason", "UNKNOWN_DELAY")
    )
    return (
        "Subject",
        [
            ("IndexNumber", who.index_number),
            ("Name", name_parts(who)),
            ("BirthDate", who.birth_date.isoformat()),
            ("BirthDateVerification", "LEVEL_2"),
            ("Gender", who.gender),
            identifier,
            ("UPN", who.upn),
        ],
    )


def practitioner_parts(dice: Dice, today: date, agency: str, agency_id: str) -> list[Tree]:
    """Return the content of a PractitionerContact at ``agency``."""
    who = person(dice.number(10_000, 19_999), today, adult=True)
    return [
        ("Name", name_parts(who)),
        ("JobTitle", dice.pick(("Social worker", "Case manager", "Designated safeguarding lead"))),
        ("Agency", agency),
        ("AgencyId", agency_id),
        ("Phone", phone(dice)),
        ("Email", f"duty.{dice.number(1, 99)}@{agency_id}.example"),
    ]


def phone(dice: Dice) -> str:
    """Return a number in the range that Ofcom keeps for drama."""
    return f"0191 498 0{dice.number(0, 999):03d}"


def household_member(dice: Dice, today: date) -> Tree:
    """Return somebody who lives with the child."""
    grown_up = dice.chance(60)
    who = person(dice.number(20_000, 99_999), today, adult=grown_up)
    parent = "MOTHER" if who.gender == "F" else "FATHER"
    return (
        "HouseholdMember",
        [
            ("Name", name_parts(who)),
            ("Relationship", parent if grown_up else "SIBLING"),
            ("BirthDate", who.birth_date.isoformat()),
            ("Gender", who.gender),
            ("Ethnicity", "NS"),
            ("Address", address_parts(dice)),
            ("ParentalResponsibility", flag(grown_up)),
            ("LivesInHousehold", "true"),
            ("FocusOfReferral", flag(not grown_up)),
            ("GP", "Millfield Medical Group"),
        ],
    )


def carer(dice: Dice, today: date, name: str) -> Tree:
    """Return a parent as an element ``name`` of type Carer."""
    who = person(dice.number(20_000, 99_999), today, adult=True)
    return (
        name,
        [
            ("Name", name_parts(who)),
            ("Relationship", "MOTHER" if who.gender == "F" else "FATHER"),
            ("ParentalResponsibility", "true"),
            ("Phone", phone(dice)),
            ("Address", address_parts(dice)),
        ],
    )


def sharing_basis() -> Tree:
    """Return the statement of a sender who shares to safeguard a child."""
    return (
        "SharingBasis",
        [
            ("RelevanceConsidered", "true"),
            ("RecipientFunction", "SAFEGUARDING"),
            ("DetrimentTest", "NOT_DETRIMENTAL"),
            ("Condition", "DPA-S1-18"),
            ("ConsentNotObtained", "NOT_REASONABLE"),
        ],
    )


def involvement(dice: Dice, today: date, name: str, service: str) -> Tree:
    """Return an element ``name`` of type ServiceInvolvement."""
    provider, agency_id, reference = _PROVIDERS[service]
    return (
        name,
        [
            ("ServiceType", service),
            ("Provider", provider),
            ("ProviderRef", reference),
            ("Contact", practitioner_parts(dice, today, provider, agency_id)),
            ("StartedOn", (today - timedelta(days=dice.number(30, 900))).isoformat()),
        ],
    )


def sensitive_involvement(dice: Dice, today: date) -> Tree:
    """Return an involvement of child and adolescent mental health services."""
    provider = "Wearside NHS Foundation Trust, CAMHS"
    return (
        "SensitiveInvolvement",
        [
            ("ServiceType", "MENTAL_HEALTH"),
            ("Ground", "CONSENT"),
            ("Provider", provider),
            ("Contact", practitioner_parts(dice, today, provider, "wearside-nhs")),
            ("StartedOn", (today - timedelta(days=dice.number(30, 400))).isoformat()),
        ],
    )


_PROVIDERS = {
    "SCHOOL": ("Hylton Academy", "hylton-school", "108999"),
    "GP": ("Millfield Medical Group", "wearside-nhs", "A89999"),
    "CSC_CIN": ("Sunderland children's social care", "sunderland-csc", "394"),
    "YOT": ("Sunderland youth offending team", "sunderland-yot", "394"),
    "VCS": ("Northern Lights", "northern-lights", "VCS-17"),
    "UNIVERSAL_HEALTH": ("Wearside 0-19 service", "wearside-nhs", "RX9"),
    "EARLY_HELP": ("Sunderland early help", "sunderland-csc", "394"),
    "SEND": ("Sunderland SEND team", "sunderland-csc", "394"),
}

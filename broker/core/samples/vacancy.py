"""Sample vacancies."""

from datetime import date, timedelta

from broker.core.samples.people import Dice, name_parts, person, phone
from broker.core.samples.tree import Tree

_POSTS = (
    ("Social worker, assessment team", "FULL_TIME", 37, "34834.00", "42708.00", "Grade 9"),
    ("Teaching assistant, key stage 2", "TERM_TIME", 30, "23656.00", "24404.00", "Grade 4"),
    ("Highways operative", "FULL_TIME", 37, "25183.00", "26873.00", "Grade 5"),
    ("Library supervisor (job share)", "JOB_SHARE", 18, "27711.00", "29572.00", "Grade 6"),
    ("Care assistant, extra care housing", "FLEXIBLE", 24, "23893.00", "24790.00", "Grade 4"),
)
_ADVERT = (
    "<p><strong>About the post.</strong> You join a team that people in the borough rely on every "
    "day. You plan your own work with an experienced colleague beside you, and you have time to "
    "do it properly.</p><p>You will:</p><ul><li>work with residents, schools and partners, and "
    "keep your word to them;</li><li>keep short, exact records that others can act on;</li>"
    "<li>take part in the duty rota, <em>about one week in six</em>;</li><li>say when something "
    "is not safe, and be heard.</li></ul><p>You bring experience of similar work, paid or not, "
    "and the qualification named in the job description. We bring training, supervision every "
    "four weeks, a local government pension and flexible hours.</p><p>For a talk about the post "
    'ring the contact below. <a href="https://jobs.gateshead.example/how-to-apply">How to '
    "apply</a>.</p>"
)


def employer() -> Tree:
    """Return the employer of every sample vacancy."""
    return (
        "Employer",
        [
            ("Name", "Gateshead Council"),
            ("Code", "E08000037"),
            ("LogoUrl", "https://jobs.gateshead.example/logo.svg"),
        ],
    )


def vacancy(dice: Dice, today: date, *, ref: str, version: int = 1) -> Tree:
    """Return an open vacancy of about 4 KB."""
    title, hours, weekly, low, high, grade = dice.pick(_POSTS)
    closes = today + timedelta(days=dice.number(14, 28))
    contact = person(dice.number(10_000, 19_999), today, adult=True)
    return (
        "Vacancy",
        [
            ("VacancyRef", ref),
            ("PostingRef", f"{ref}-{version}"),
            ("Version", str(version)),
            ("Status", "OPEN"),
            ("Visibility", "PUBLIC"),
            employer(),
            ("Department", dice.pick(("Care, Wellbeing and Learning", "Communities"))),
            ("Title", title),
            (
                "Summary",
                "A permanent post in a stable team; applications from career changers welcome.",
            ),
            ("Description", _ADVERT),
            ("Category", [("Scheme", "SOC2020"), ("Code", str(dice.number(2111, 6240)))]),
            ("Category", [("Scheme", "DWP"), ("Code", str(dice.number(1, 28)))]),
            ("ContractType", "PERMANENT"),
            ("Hours", [("Pattern", hours), ("WeeklyHours", str(weekly))]),
            _salary(dice, low, high, grade),
            _location(dice),
            ("NumberOfPosts", str(dice.number(1, 3))),
            ("PostedOn", today.isoformat()),
            ("ClosesAt", f"{closes.isoformat()}T23:59:00+01:00"),
            ("InterviewOn", (closes + timedelta(days=10)).isoformat()),
            ("StartOn", (closes + timedelta(days=60)).isoformat()),
            ("ApplyUrl", f"https://jobs.gateshead.example/vacancy/{ref}"),
            ("ApplyEmail", "recruitment@gateshead-hr.example"),
            (
                "Contact",
                [
                    ("Name", name_parts(contact)),
                    ("Phone", phone(dice)),
                    ("Email", "recruitment@gateshead-hr.example"),
                ],
            ),
            ("Checks", dice.pick(("DBS_ENHANCED", "DBS_BASIC", "NONE"))),
            ("PoliticallyRestricted", "false"),
            ("GuaranteedInterview", "true"),
            ("ServiceId", str(dice.number(1, 1800))),
            attachment(dice),
        ],
    )


def _salary(dice: Dice, low: str, high: str, grade: str) -> Tree:
    point = dice.number(4, 30)
    return (
        "Salary",
        [
            ("Min", low),
            ("Max", high),
            ("Currency", "GBP"),
            ("Unit", "YEAR"),
            ("Grade", grade),
            ("ScalePointMin", str(point)),
            ("ScalePointMax", str(point + 4)),
            ("Text", "Pro rata for part-time and term-time posts."),
        ],
    )


def _location(dice: Dice) -> Tree:
    return (
        "Location",
        [
            ("Place", "Civic Centre, Gateshead"),
            (
                "Address",
                [
                    ("PAON", [("Description", "Civic Centre")]),
                    ("Street", "Regent Street"),
                    ("Town", "Gateshead"),
                    ("PostCode", "NE8 1HH"),
                    ("UPRN", "100000077407"),
                ],
            ),
            ("PostCode", "NE8 1HH"),
            ("Remote", dice.pick(("NO", "HYBRID"))),
        ],
    )


def attachment(dice: Dice) -> Tree:
    """Return a document to read with the advertisement."""
    number = dice.number(1, 99_999)
    return (
        "Attachment",
        [
            ("Name", f"Job description {number}"),
            ("MediaType", "application/pdf"),
            ("Location", f"https://jobs.gateshead.example/documents/{number}.pdf"),
            ("Sha256", f"{number:064x}"),
        ],
    )


def ended(dice: Dice, today: date, reason: str) -> list[Tree]:
    """Return the content of VacancyClosed and VacancyWithdrawn."""
    return [
        employer(),
        ("VacancyRef", reference(dice)),
        ("Version", "2"),
        ("EndedAt", f"{today.isoformat()}T16:30:00+01:00"),
        ("Reason", reason),
    ]


def reference(dice: Dice) -> str:
    """Return a vacancy reference."""
    return f"GMBC-{dice.number(10_000, 99_999)}"


def feedback_item(dice: Dice) -> Tree:
    """Return what a channel made of one vacancy; one in four was rejected."""
    rejected = dice.chance(25)
    reason: list[Tree] = [("Reason", "The postcode is not known to us.")] if rejected else []
    return (
        "Item",
        [
            ("Employer", "E08000037"),
            ("VacancyRef", reference(dice)),
            ("Version", "1"),
            ("Result", "REJECTED" if rejected else "ACCEPTED"),
            *reason,
            ("ChannelRef", f"FAJ-{dice.number(100_000, 999_999)}"),
        ],
    )

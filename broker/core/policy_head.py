"""How far the policy log had come: it may grow, and is otherwise what it was (ISP-3.14).

A log whose last lines were cut off is whole in itself, so what is left cannot tell. The ledger
remembers the last line that was in force, and who could sign then. Where lines are lost for
good, the log goes on from what is left by a line that says so (`RESTORE`), under which every
agreement stands suspended.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from broker.core.identity import AgencyId
from broker.core.instant import millis
from broker.core.ledger import VERSION
from broker.core.policy_log import LOG, START, Act, refused
from broker.core.table import Mistake
from broker.core.two_keys import People, Policy, Restoration


@dataclass(frozen=True, slots=True)
class Head:
    """The last line of a log, and the fingerprints of each agency's designated people then."""

    lines: int
    digest: str  # SHA-256 of that line
    people: People


def head_of(policy: Policy) -> Head:
    """Return how far the log of ``policy`` has come."""
    return Head(len(policy.acts), _digest(policy.acts, len(policy.acts)), policy.designated)


def head_entry(head: Head, restored: Restoration | None, at: datetime) -> dict[str, object]:
    """Return the ledger's entry of a log that is about to be in force.

    ``restored`` is the line by which it goes on, if it does not continue what was recorded.
    """
    lost = None if restored is None else {"lines": restored.lines, "digest": restored.digest}
    return {
        "v": VERSION,
        "kind": "policy",
        "lines": head.lines,
        "digest": head.digest,
        "people": {agency: list(people) for agency, people in head.people.items()},
        "lost": lost,
        "at": millis(at),
    }


def read_head(entry: bytes) -> Head:
    """Return what an entry of the ledger remembers."""
    found = json.loads(entry)
    people = {AgencyId(agency): tuple(held) for agency, held in found["people"].items()}
    return Head(found["lines"], found["digest"], people)


def continued(policy: Policy, recorded: Head) -> Restoration | None:
    """Return the line by which ``policy`` goes on after a loss; None: nothing was lost.

    Raises:
        Mistake: its log does not go on from ``recorded``.
    """
    acts, later = policy.acts, [one for one in policy.restored if one.line > recorded.lines]
    if len(acts) >= recorded.lines and _digest(acts, recorded.lines) == recorded.digest:
        if later:
            raise refused(later[0].line, "nothing was lost: take this line and those after it away")
        return None
    for one in policy.restored:
        if (one.lines, one.digest) == (recorded.lines, recorded.digest):
            require_same_people(one.people, recorded)
            return one
    raise Mistake(
        LOG,
        "",
        "",
        f"line {recorded.lines}, with digest {recorded.digest[:16]}, was in force and is gone or"
        " changed: the operator puts back the newest copy, of another node, a party or a backup;"
        " if nobody has one, see fame protocol restore",
    )


def require_same_people(people: Mapping[AgencyId, Sequence[str]], recorded: Head) -> None:
    """Require that who could sign when lines were lost can sign, and nobody else.

    Raises:
        Mistake: somebody designated is missing, or somebody withdrawn is back.
    """
    for agency, known in recorded.people.items():
        here = set(people.get(agency, ()))
        if not here:
            cure = f"a designated person of {agency} is missing: they designate themselves again"
            raise Mistake(LOG, "", "", f"{cure}, with the certificate they had")
        if here - set(known):
            cure = f"a person of {agency} is back who was withdrawn: another withdraws them again"
            raise Mistake(LOG, "", "", cure)


def _digest(acts: Sequence[Act], lines: int) -> str:
    return sha256(acts[lines - 1].line).hexdigest() if lines else START

"""What is in force by the policy log: nothing that widens sharing by one hand alone (ISP-3.11).

The first version of a sharing protocol takes effect when every party's designated person has
signed it. A later version needs at least one, and everyone whose sharing it widens. Stopping
takes one party (of a memorandum or community agreement: its lead), starting again takes all.
A version is activated once and never again, so an old signature can bring nothing back.
Where lines were lost nobody knows what was, so everything is suspended, and begins when each
of those whose sharing it widens has activated it: a signature from before proves too little.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from cryptography import x509

from broker.core.designation import First, first_of
from broker.core.identity import AgencyId
from broker.core.policy_log import (
    RESTORE,
    Act,
    Content,
    canonical_agreement,
    certificate_of,
    fingerprint,
    is_signed,
    refused,
)

PURPOSE_TIER = 2
LINES = re.compile("[0-9]{1,9}")
SIGNED = "signed"  # the folder with the agreements as they were signed, named by digest

People = Mapping[AgencyId, tuple[str, ...]]  # fingerprints of an agency's designated people


@dataclass(frozen=True, slots=True)
class Ruling:
    """One version that was activated, and how it stands. ``signed`` are the acts of signing."""

    protocol_id: str
    version: int
    digest: str
    activated_at: datetime
    signed: tuple[Act, ...]
    status: str = "ACTIVE"  # or SUSPENDED, TERMINATED
    resumed: frozenset[AgencyId] = frozenset()  # who wants it back since it was suspended

    @property
    def reference(self) -> str:
        """The name with its version."""
        return f"{self.protocol_id}@{self.version}"


@dataclass(frozen=True, slots=True)
class Restoration:
    """The ``line`` by which a log went on after others were lost, up to one of ``digest``.

    ``people`` are those designated by what was left.
    """

    line: int
    lines: int  # there were
    digest: str
    people: People


@dataclass(frozen=True, slots=True)
class Policy:
    """What the log comes to.

    ``people`` are the designated persons by fingerprint, ``everybody`` also those withdrawn.
    """

    acts: tuple[Act, ...] = ()
    rulings: Mapping[str, Ruling] = field(default_factory=dict)
    signed: Mapping[str, tuple[Act, ...]] = field(default_factory=dict)  # by digest
    people: Mapping[str, Act] = field(default_factory=dict)
    everybody: Mapping[str, Act] = field(default_factory=dict)
    firsts: tuple[First, ...] = ()
    restored: tuple[Restoration, ...] = ()

    @property
    def designated(self) -> People:
        """The fingerprints of each agency's designated people, in order."""
        return _designated(self.people)

    def signers(self, digest: str) -> frozenset[AgencyId]:
        """Return the agencies that have signed the agreement of this digest."""
        return frozenset(act.party for act in self.signed.get(digest, ()))


# Of the rulings so far and the one to come: who has to have signed it.
Needed = Callable[[Mapping[str, Ruling], Ruling], frozenset[AgencyId]]


def policy_of(acts: Sequence[Act], agreements: Mapping[str, Content], needed: Needed) -> Policy:
    """Return what ``acts`` come to; ``agreements`` are those that were signed, by digest.

    Raises:
        Mistake: an act is not signed as it must be, or was not the person's to do.
    """
    reading = _Reading(agreements, needed)
    for act in acts:
        reading.take(act)
    return Policy(
        acts=tuple(acts),
        rulings=reading.rulings,
        signed=reading.signed,
        people=reading.people,
        everybody=reading.everybody,
        firsts=tuple(reading.firsts),
        restored=tuple(reading.restored),
    )


def parties_of(content: Content) -> frozenset[AgencyId]:
    """Return the agencies that an agreement binds."""
    parties = content.get("party")
    named = parties if isinstance(parties, list) else []
    return frozenset(AgencyId(str(one.get("agency"))) for one in named)


def _designated(people: Mapping[str, Act]) -> People:
    found: dict[AgencyId, tuple[str, ...]] = {}
    for person, act in sorted(people.items()):
        found[act.party] = (*found.get(act.party, ()), person)
    return found


class _Reading:
    """The log read up to one line."""

    def __init__(self, agreements: Mapping[str, Content], needed: Needed) -> None:
        self.agreements = agreements
        self.needed = needed
        self.rulings: dict[str, Ruling] = {}
        self.signed: dict[str, tuple[Act, ...]] = {}
        self.people: dict[str, Act] = {}
        self.everybody: dict[str, Act] = {}
        self.certificates: dict[str, x509.Certificate] = {}
        self.firsts: list[First] = []
        self.restored: list[Restoration] = []
        self.begun: dict[str, frozenset[AgencyId]] = {}  # by digest: who activated it since a loss

    def take(self, act: Act) -> None:
        """Take one act into account."""
        if act.act == "designate":
            self._designate(act)
            return
        if act.act == RESTORE:
            self._restore(act)
            return
        self._check(act, act.person)
        if act.act == "withdraw":
            self._withdraw(act)
        elif act.act == "sign":
            self.signed[act.digest] = (*self.signed.get(act.digest, ()), act)
        elif act.act == "activate":
            self._activate(act)
        else:
            self._change(act)

    def _designate(self, act: Act) -> None:
        """Take in a new designated person: the first by their own key and their agency's.

        Others are named by one before.
        """
        certificate = certificate_of(act)
        new = fingerprint(certificate)
        known = any(one.party == act.party for one in self.people.values())
        if known:
            self._check(act, act.person)
        elif not is_signed(act, certificate):
            raise refused(act.number, "the first designated person signs with their own key")
        else:
            self.firsts.append(first_of(act))
        self.people[new] = self.everybody[new] = act
        self.certificates[new] = certificate

    def _restore(self, act: Act) -> None:
        """Suspend everything: the broker says that lines were lost here.

        Whoever can write the log could put such a line into it, so it gives nothing to anybody;
        and a broker takes it only of a log that did lose the line it names.
        """
        certificate = certificate_of(act)
        lines, digest = str(act.detail.get("lines")), str(act.detail.get("digest"))
        if not LINES.fullmatch(lines) or not is_signed(act, certificate):
            raise refused(act.number, "not a line that says what was lost, signed by who says so")
        self.everybody[act.person] = act
        self.restored.append(Restoration(act.number, int(lines), digest, _designated(self.people)))
        self.begun = {}
        for name, one in self.rulings.items():
            if one.status != "TERMINATED":
                self.rulings[name] = replace(one, status="SUSPENDED", resumed=frozenset())

    def _withdraw(self, act: Act) -> None:
        named = self.people.get(act.detail.get("person", ""))
        if named is None or named.party != act.party:
            raise refused(act.number, "an agency withdraws a designated person of its own")
        del self.people[act.detail["person"]]

    def _check(self, act: Act, person: str) -> None:
        """Require that a person designated by the agency signed, with a certificate then good."""
        named = self.people.get(person)
        if named is None or named.party != act.party:
            raise refused(act.number, f"not signed by a designated person of {act.party}")
        certificate = self.certificates[person]
        if not certificate.not_valid_before_utc <= act.at <= certificate.not_valid_after_utc:
            raise refused(act.number, "the certificate of the signer was not valid then")
        agreement = b""
        if act.protocol:
            content = self._agreement(act)
            agreement = canonical_agreement(content)
            if act.party not in parties_of(content):
                raise refused(act.number, f"{act.party} is no party of {act.protocol}")
        if not is_signed(act, certificate, agreement):
            raise refused(act.number, "the signature is not that of the person named")

    def _agreement(self, act: Act) -> Content:
        content = self.agreements.get(act.digest)
        if content is None:
            raise refused(act.number, f"the agreement {SIGNED}/{act.digest}.toml is missing")
        if act.protocol != f"{content.get('id')}@{content.get('version')}":
            raise refused(act.number, f"the agreement of this digest is not {act.protocol}")
        return content

    def _activate(self, act: Act) -> None:
        content = self.agreements[act.digest]
        name, version = str(content["id"]), int(str(content["version"]))
        later = [one.version for one in self.rulings.values() if one.protocol_id == name]
        if later and max(later) >= version:
            raise refused(act.number, f"version {max(later)} is in the log: write a later one")
        signed = self.signed.get(act.digest, ())
        ruling = Ruling(name, version, act.digest, act.at, signed)
        wanted = self.needed(self.rulings, ruling)
        missing = wanted - {one.party for one in signed}
        if missing or not signed:
            names = ", ".join(sorted(missing)) or "any party"
            raise refused(act.number, f"{act.protocol} is not signed by {names}")
        begun = self.begun[act.digest] = self.begun.get(act.digest, frozenset()) | {act.party}
        if self.restored and not wanted <= begun:
            return  # it may have been ended by a line that is lost: the others say so too
        self.rulings[act.protocol] = ruling

    def _change(self, act: Act) -> None:
        ruling = self.rulings.get(act.protocol)
        if ruling is None or ruling.digest != act.digest:
            raise refused(act.number, f"{act.protocol} was not activated")
        if ruling.status == "TERMINATED":
            raise refused(act.number, f"{act.protocol} has ended")
        if act.act == "resume":
            self.rulings[act.protocol] = self._resumed(ruling, act)
            return
        content = self.agreements[act.digest]
        lead = content.get("lead_organisation")
        if int(str(content.get("tier"))) < PURPOSE_TIER and act.party != lead:
            raise refused(act.number, f"{act.protocol} is stopped by its lead, {lead}")
        status = "TERMINATED" if act.act == "terminate" else "SUSPENDED"
        self.rulings[act.protocol] = replace(ruling, status=status, resumed=frozenset())

    def _resumed(self, ruling: Ruling, act: Act) -> Ruling:
        if ruling.status != "SUSPENDED":
            raise refused(act.number, f"{act.protocol} is not suspended")
        resumed = ruling.resumed | {act.party}
        if resumed >= parties_of(self.agreements[act.digest]):
            return replace(ruling, status="ACTIVE", resumed=frozenset())
        return replace(ruling, resumed=resumed)

"""The partnership of a sandbox signs: each agency designates a person, and all agreements begin."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from broker.cli import pki
from broker.core.designation import confirmed
from broker.core.identity import AgencyId
from broker.core.policy_log import Act, PrivateKey, designation, fingerprint, import_key
from broker.core.sharing import SharingProtocol
from broker.edge.policy_files import keep_agreement, write_log
from broker.edge.registers import load_register, read_sources

POSITION = "Designated person (synthetic)"


@dataclass(frozen=True, slots=True)
class Person:
    """Who signs for an agency, with the key; and the agency's own, that says so."""

    agency: AgencyId
    key: PrivateKey
    certificate: x509.Certificate
    agency_key: PrivateKey
    agency_certificate: x509.Certificate


def make_designated_key(folder: Path, authority: pki.Authority, at: datetime) -> None:
    """Write the key with which an agency's designated person signs, and its certificate."""
    key: ec.EllipticCurvePrivateKey = pki.new_ec_key()
    name = f"{folder.name} designated person"
    certificate = pki.signing_certificate(authority, key, name, at)
    pki.write_secret(folder / "designated.key.pem", pki.key_pem(key))
    (folder / "designated.cert.pem").write_bytes(pki.certificate_pem(certificate))


def found(protocols: Path, agencies: Path, at: datetime) -> None:
    """Let every agency below ``agencies`` sign every agreement it is a party of."""
    people = {folder.name: _person(folder) for folder in sorted(agencies.iterdir())}
    register, sources = load_register(protocols), read_sources(protocols)
    agreements = sorted(register.protocols.values(), key=lambda one: (one.tier, one.reference))
    digests = {one.reference: keep_agreement(protocols, one.file, sources) for one in agreements}

    def acts() -> Iterator[tuple[Act, PrivateKey]]:
        for person in people.values():
            name = f"Designated person of {person.agency}"
            detail = designation(person.certificate, name, POSITION)
            act = _act("designate", person, at, detail=detail)
            yield confirmed(act, person.agency_key, person.agency_certificate), person.key
        for agreement in agreements:
            yield from _begun(agreement, digests[agreement.reference], people, at)

    write_log(protocols, acts())


def _begun(
    agreement: SharingProtocol, digest: str, people: dict[str, Person], at: datetime
) -> Iterator[tuple[Act, PrivateKey]]:
    for what, parties in (("sign", agreement.parties), ("activate", agreement.parties[:1])):
        for party in parties:
            person = people[party.agency]
            yield _act(what, person, at, agreement.reference, digest), person.key


def _person(folder: Path) -> Person:
    own = folder / "signing.key.pem"
    if not own.exists():  # the broker signs what it sends with the key of its receipts
        own = folder.parents[1] / "keys" / "receipt.key.pem"
    return Person(
        agency=AgencyId(folder.name),
        key=import_key((folder / "designated.key.pem").read_bytes()),
        certificate=_certificate(folder / "designated.cert.pem"),
        agency_key=import_key(own.read_bytes()),
        agency_certificate=_certificate(folder / "signing.cert.pem"),
    )


def _certificate(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


def _act(
    what: str,
    person: Person,
    at: datetime,
    protocol: str = "",
    digest: str = "",
    detail: dict[str, str] | None = None,
) -> Act:
    return Act(
        number=0,
        previous="",
        at=at.replace(microsecond=0),
        act=what,
        party=person.agency,
        person=fingerprint(person.certificate),
        protocol=protocol,
        digest=digest,
        detail=detail or {},
    )

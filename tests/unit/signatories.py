"""Designated persons with keys, and a policy log that they write."""

import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker.core.designation import confirmed
from broker.core.identity import AgencyId
from broker.core.in_force import InForce, Sources, in_force
from broker.core.policy_head import Head, head_of
from broker.core.policy_log import (
    Act,
    PrivateKey,
    canonical_agreement,
    designation,
    digest_of_agreement,
    fingerprint,
    import_key,
    next_act,
    sign_act,
)
from tests.unit.policy_world import SHARING, Change, Tables, files

START = datetime(2026, 2, 1, 9, tzinfo=UTC)
EVERYBODY = ("yot", "csc", "camhs", "charity", "police")
Person = tuple[PrivateKey, x509.Certificate]
Forge = Callable[[Act], Act]


@cache
def person(name: str) -> Person:
    """Return the key and the certificate of a person of that name."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(START - timedelta(days=1))
        .not_valid_after(START + timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return import_key(pem), certificate


def agency_of(party: str) -> Person:
    """Return the key with which an agency signs its messages, and the certificate."""
    return person(f"messages of {party}")


def by_agency(party: str) -> Forge:
    """Return what adds the agency's signature to the naming of its first person."""
    return lambda act: confirmed(act, *agency_of(party))


class Desk:
    """Where the partnership of `policy_world` signs; every act comes a minute after the last."""

    def __init__(self, *changes: Change) -> None:
        self.files: Tables = files(*changes)
        self.agreements: dict[str, Any] = {}
        self.acts: list[Act] = []
        self.at = START

    def act(self, what: str, party: str, protocol: str = "", **more: Any) -> None:
        """Add an act ``by`` a person, ``days`` later; ``forge`` changes it after it was signed."""
        key, certificate = person(more.pop("by", party))
        forge: Forge = more.pop("forge", lambda act: act)
        at = self.at + timedelta(days=more.pop("days", 0))
        confirm: Forge = more.pop("confirm", lambda act: act)
        digest = ""
        agreement = b""
        if protocol:
            name, _, version = protocol.partition("@")
            content = copy.deepcopy(self.files[f"sharing/{name}.v{version}.toml"])
            digest = digest_of_agreement(content)
            self.agreements[digest] = content
            agreement = canonical_agreement(content)
        act = Act(
            number=0,
            previous="",
            at=at,
            act=what,
            party=AgencyId(party),
            person=fingerprint(certificate),
            protocol=protocol,
            digest=digest,
            detail=more,
        )
        self.at += timedelta(minutes=1)
        self.acts.append(forge(sign_act(next_act(self.acts, confirm(act)), key, agreement)))

    def designate(self, party: str, name: str = "", by: str = "") -> None:
        """Designate a person of ``party``; the first is confirmed by the agency."""
        detail: dict[str, Any] = designation(
            person(name or party)[1], f"Person {name or party}", "Head"
        )
        if not by:
            detail |= {"confirm": by_agency(party)}
        self.act("designate", party, by=by or name or party, **detail)

    def restore(self, lost: Head, **more: Any) -> None:
        """Say, as the broker does, that the log went up to ``lost``."""
        detail = designation(person("broker")[1], "broker", "broker")
        known: dict[str, Any] = {"lines": str(lost.lines), "digest": lost.digest, **detail}
        self.act("restore", "broker", **known | more)

    def cut(self, lines: int) -> Head:
        """Lose so many lines at the end, and return what the ledger knows of them."""
        known = head_of(self.in_force().policy)
        del self.acts[len(self.acts) - lines :]
        return known

    def begin(self, protocol: str, *signers: str) -> None:
        """Let ``signers`` sign, and the first of them activate."""
        for party in signers:
            self.act("sign", party, protocol)
        self.act("activate", signers[0], protocol)

    def found(self) -> "Desk":
        """Begin everything, signed by everybody."""
        for party in EVERYBODY:
            self.designate(party)
        for protocol in ("memorandum@1", "community@1"):
            self.begin(protocol, *EVERYBODY)
        self.begin("checks@1", "yot", "csc")
        return self

    @property
    def sources(self) -> Sources:
        """What lies on disk."""
        log = "".join(f"{act.line.decode()}\n" for act in self.acts)
        registered, blobs = dict(self.files), {}
        for party in EVERYBODY:
            file = f"certificates/{party}.pem"
            blobs[file] = agency_of(party)[1].public_bytes(Encoding.PEM)
            table = self.files[f"agencies/{party}.toml"]
            registered[f"agencies/{party}.toml"] = {**table, "certificate": [{"file": file}]}
        return Sources(registered, blobs, {}, self.agreements, log)

    def in_force(self, until: datetime | None = None) -> InForce:
        """Return what the broker makes of it."""
        return in_force(self.sources, until)

    def amend(self, version: int, **values: object) -> None:
        """Write a later version of the sharing protocol, from the last one."""
        self.files[f"sharing/checks.v{version}.toml"] = {
            **copy.deepcopy(self.files[SHARING]),
            "version": version,
            **values,
        }


def other(**values: Any) -> Forge:
    """Return a forgery that changes fields of a signed act."""
    return lambda act: replace(act, **values)

"""The policy log: who, for which agency, signed, activated or stopped which agreement, and when.

Every line is one act of a designated person in canonical JSON (RFC 8785), names the SHA-256 of
the line before, and carries a detached JWS (RFC 7515 appendix F). What is signed is the act
itself; of ``sign`` it is the canonical agreement, so that anybody with the agreement and the
certificate can check the signature without this log.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from joserfc import jwk, jws
from joserfc.errors import JoseError

from broker.core.identity import AgencyId
from broker.core.instant import rfc3339
from broker.core.ledger import canonical
from broker.core.table import Mistake

LOG = "policy-log.jsonl"
START = "0" * 64
RESTORE = "restore"  # the broker's own line: see `broker.core.policy_head`
ACTS = ("designate", "withdraw", "sign", "activate", "suspend", "resume", "terminate", RESTORE)
ALGORITHMS = {"EC": "ES256", "RSA": "PS256", "OKP": "Ed25519"}  # by kind of key
# What is said of an agreement and not by it: it changes without the agreement changing.
ABOUT = frozenset({"status", "signatory", "activated_at"})
CAUSES = ("breach", "incident", "review", "law-changed", "notice", "mistake")  # of stopping

PrivateKey = jwk.ECKey | jwk.RSAKey | jwk.OKPKey
Content = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Act:
    """One line. ``person`` is the SHA-256 of the certificate that the signature is checked with."""

    number: int
    previous: str
    at: datetime
    act: str
    party: AgencyId
    person: str
    protocol: str = ""  # "id@version"
    digest: str = ""
    detail: Mapping[str, str] = field(default_factory=dict)
    signature: str = ""

    @property
    def line(self) -> bytes:
        """The line as it stands in the log, without its end."""
        return canonical({**self._content(), "signature": self.signature})

    @property
    def statement(self) -> bytes:
        """What is signed of every act but ``sign``."""
        return canonical(self._content())

    def _content(self) -> dict[str, object]:
        return {
            "number": self.number,
            "previous": self.previous,
            "at": rfc3339(self.at),
            "act": self.act,
            "party": str(self.party),
            "person": self.person,
            "protocol": self.protocol,
            "digest": self.digest,
            "detail": dict(self.detail),
        }


def canonical_agreement(content: Content) -> bytes:
    """Return what the parties sign: the agreement as parsed, in canonical form."""
    return canonical(_plain({key: value for key, value in content.items() if key not in ABOUT}))


def digest_of_agreement(content: Content) -> str:
    """Return the SHA-256, in hex, of the canonical agreement."""
    return sha256(canonical_agreement(content)).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value


def read_log(text: str) -> tuple[Act, ...]:
    """Return the acts of a log whose chain is whole. Who signed is not looked at here.

    Raises:
        Mistake: a line is not what it should be, or lines are missing or in another order.
    """
    acts: list[Act] = []
    previous = START
    for number, line in enumerate(text.splitlines(), 1):
        act = _act(line, number)
        if act.previous != previous or act.number != number:
            raise refused(number, "lines before it were changed, moved or taken away")
        if acts and act.at < acts[-1].at:
            raise refused(number, "it is earlier than the line before")
        acts.append(act)
        previous = sha256(act.line).hexdigest()
    return tuple(acts)


def _act(line: str, number: int) -> Act:
    try:
        found = json.loads(line)
        act = Act(**{**found, "at": datetime.fromisoformat(found["at"])})
        written = act.line == line.encode()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise refused(number, "not a line of a policy log") from error
    if not written or act.act not in ACTS:
        raise refused(number, "not a line as this log is written")
    return act


def refused(number: int, cure: str) -> Mistake:
    """Return the error to raise about line ``number``."""
    return Mistake(LOG, f"line {number}", "", cure)


def next_act(acts: Sequence[Act], act: Act) -> Act:
    """Return ``act`` in its place after ``acts``; it is not signed yet."""
    previous = sha256(acts[-1].line).hexdigest() if acts else START
    return replace(act, number=len(acts) + 1, previous=previous)


def sign_act(act: Act, key: PrivateKey, agreement: bytes = b"") -> Act:
    """Return ``act`` with its signature; ``agreement`` is the canonical one that ``sign`` signs."""
    payload = agreement if act.act == "sign" else act.statement
    return replace(act, signature=detached(payload, key, act.person))


def detached(payload: bytes, key: PrivateKey, signer: str) -> str:
    """Return the detached JWS of ``payload``; ``signer`` is the fingerprint of a certificate."""
    algorithm = ALGORITHMS[key.key_type]
    header = {"alg": algorithm, "kid": signer}
    return jws.detach_content(jws.serialize_compact(header, payload, key, algorithms=[algorithm]))


def is_signed(act: Act, certificate: x509.Certificate, agreement: bytes = b"") -> bool:
    """Return whether the holder of ``certificate`` signed ``act``."""
    payload = agreement if act.act == "sign" else act.statement
    signed = is_detached(act.signature, payload, certificate)
    return signed and act.person == fingerprint(certificate)


def is_detached(signature: str, payload: bytes, certificate: x509.Certificate) -> bool:
    """Return whether the holder of ``certificate`` signed ``payload``, and says which it is."""
    try:
        key = public_key(certificate)
        algorithm = ALGORITHMS[key.key_type]
        seen = jws.deserialize_compact(signature, key, [algorithm], payload=payload)
    except (JoseError, ValueError):
        return False
    return seen.protected.get("kid") == fingerprint(certificate)


def public_key(certificate: x509.Certificate) -> PrivateKey:
    """Return the public key of ``certificate``.

    Raises:
        ValueError: no signature can be checked with a key of that kind.
    """
    pem = certificate.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return import_key(pem)


def import_key(pem: bytes) -> PrivateKey:
    """Return the key, private or public, of a PEM text.

    Raises:
        ValueError: it is none, or not of a kind that signs here.
    """
    kinds: tuple[type[PrivateKey], ...] = (jwk.ECKey, jwk.RSAKey, jwk.OKPKey)
    for kind in kinds:
        try:
            return kind.import_key(pem)
        except (ValueError, TypeError, JoseError):
            continue
    raise ValueError("not a key that can sign")


def certificate_of(act: Act) -> x509.Certificate:
    """Return the certificate that an act brings.

    Raises:
        Mistake: it brings none, or another than it says.
    """
    try:
        certificate = of_base64(act.detail["certificate"])
    except (KeyError, ValueError) as error:
        raise refused(act.number, "it names no certificate") from error
    return certificate


def to_base64(certificate: x509.Certificate) -> str:
    """Return ``certificate`` as the detail of an act holds it."""
    return base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()


def of_base64(text: str) -> x509.Certificate:
    """Return the certificate that the detail of an act holds.

    Raises:
        ValueError: it is none.
    """
    return x509.load_der_x509_certificate(base64.b64decode(text))


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256, in hex, by which a designated person is named."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def designation(certificate: x509.Certificate, name: str, position: str) -> dict[str, str]:
    """Return the detail of a ``designate`` act, and the first part of that of others."""
    return {
        "certificate": to_base64(certificate),
        "name": name,
        "position": position,
    }

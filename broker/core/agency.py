"""The agencies of a partnership as the register holds them: what they are, and their keys.

Keys and certificates are loaded once, when the register is read: loading an RSA key from
its encoding costs a thousand times what checking a signature with it does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key

from broker.core.identity import AgencyId

ACTIVE = "active"
SUSPENDED = "suspended"

ALWAYS = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
ENCRYPTION_CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})

NO_SETTINGS: Mapping[str, str | int] = {}


@dataclass(frozen=True, slots=True)
class AgencyFlags:
    """What the law asks about a body before it may disclose or receive.

    Sources: Crime and Disorder Act 1998 s.115 (relevant authorities, and those acting for
    them); Children Act 2004 s.16LA (bodies under the duty to share); Police, Crime,
    Sentencing and Courts Act 2022 s.16 (specified authorities; health and social care
    authorities carved out); Data Protection Act 2018 Part 3 (competent authorities).
    """

    relevant_authority_115: bool = False
    listed_16LA: str = ""  # noqa: N815 - the section's own name; A, B or C: the paragraph
    pcsc_specified: bool = False
    health_or_social_care: bool = False
    competent_authority_le: bool = False
    acting_for: AgencyId | None = None


NO_FLAGS = AgencyFlags()


@dataclass(frozen=True, slots=True)
class RegisteredKey:
    """A signing certificate registered for an agency.

    Good from ``valid_from`` (included) to ``valid_until`` (excluded), unless ``revoked_at``
    has come. Rotation is overlap: two keys are good for a while.
    """

    certificate_der: bytes = field(repr=False)
    fingerprint: str  # SHA-256 of the certificate, lower-case hex
    public_key: CertificatePublicKeyTypes = field(repr=False)
    valid_from: datetime
    valid_until: datetime
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class EncryptionKey:
    """A public key to which what travels through Kafka to an agency is encrypted.

    Rotation is overlap: from ``valid_from`` on this one is used instead of those before it,
    while the agency keeps the private halves of all of them until nothing is on its way.
    """

    pem: bytes = field(repr=False)
    valid_from: datetime = ALWAYS[0]
    valid_until: datetime = ALWAYS[1]


@dataclass(frozen=True, slots=True)
class System:
    """A computer system that may speak for its agency, and how it proves to be that system.

    ``jwks`` is a JSON Web Key Set (RFC 7517) with the public keys of its OAuth client.
    """

    system_id: str
    tls_fingerprints: frozenset[str] = frozenset()  # SHA-256, lower-case hex
    client_id: str | None = None
    jwks: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class DeliveryRoute:
    """Which adapter takes an agency's deliveries, and its settings."""

    adapter: str = "mailbox"  # mailbox | webhook | file_drop
    settings: Mapping[str, str | int] = field(default_factory=lambda: NO_SETTINGS)


MAILBOX = DeliveryRoute()


@dataclass(frozen=True, slots=True)
class Contact:
    """A desk to ring or write to: a function of the agency, never a person by name."""

    role: str  # duty-desk, data-protection-officer, caldicott-guardian, ...
    name: str
    email: str = ""
    telephone: str = ""
    hours: str = ""


@dataclass(frozen=True, slots=True)
class Agency:
    """A party to sharing protocols. ``areas`` are GSS codes; empty means no area is named."""

    agency_id: AgencyId
    name: str
    type: str
    areas: tuple[str, ...] = ()
    status: str = ACTIVE  # active | suspended | left
    flags: AgencyFlags = NO_FLAGS
    keys: tuple[RegisteredKey, ...] = field(default=(), repr=False)
    encryption: tuple[EncryptionKey, ...] = field(default=(), repr=False)
    systems: tuple[System, ...] = ()
    delivery: DeliveryRoute = MAILBOX
    contacts: tuple[Contact, ...] = ()
    capabilities: frozenset[str] = frozenset()  # flags such as urgent-out-of-hours
    ico_registration: str = ""

    @property
    def active(self) -> bool:
        """Whether messages may come from and go to this agency."""
        return self.status == ACTIVE

    def encryption_key(self, now: datetime) -> EncryptionKey | None:
        """Return the newest key to encrypt to that is good at ``now``, or None."""
        good = [key for key in self.encryption if key.valid_from <= now < key.valid_until]
        return max(good, key=lambda key: key.valid_from, default=None)


AgencyLookup = Mapping[AgencyId, Agency]


def registered_key(
    pem: bytes,
    *,
    valid_from: datetime | None = None,
    valid_until: datetime | None = None,
    revoked_at: datetime | None = None,
) -> RegisteredKey:
    """Return the key of a PEM certificate; the certificate's own period holds unless narrowed.

    Raises:
        ValueError: ``pem`` holds no certificate that can be read.
    """
    certificate = x509.load_pem_x509_certificate(pem)
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return RegisteredKey(
        certificate_der=certificate.public_bytes(Encoding.DER),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        public_key=certificate.public_key(),
        valid_from=max(first, valid_from) if valid_from else first,
        valid_until=min(last, valid_until) if valid_until else last,
        revoked_at=revoked_at,
    )


def encryption_key(
    pem: bytes, *, valid_from: datetime | None = None, valid_until: datetime | None = None
) -> EncryptionKey:
    """Return the public key in ``pem``, on P-256, P-384, P-521 or X25519.

    Raises:
        ValueError: it is none. A private key is none either: it has no place in a register.
    """
    key = load_pem_public_key(pem)
    usual = isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in ENCRYPTION_CURVES
    if not usual and not isinstance(key, x25519.X25519PublicKey):
        raise ValueError("a public key on P-256, P-384, P-521 or X25519 is needed")
    return EncryptionKey(pem, valid_from or ALWAYS[0], valid_until or ALWAYS[1])

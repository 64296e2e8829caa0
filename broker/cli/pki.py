"""Keys and certificates: of the broker, and of a sandbox's own small authority.

The authority is for synthetic data on machines of one's own. A live partnership brings
certificates of an authority that its members trust.
"""

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

RSA_BITS = 2048
BACKDATED = timedelta(days=1)  # clocks of a partnership differ
CA_DAYS = 3650
LEAF_DAYS = 397  # what browsers take at most; a renewal a year keeps the habit alive
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority that can issue."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def new_ec_key() -> ec.EllipticCurvePrivateKey:
    """Return a new key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def new_rsa_key() -> rsa.RSAPrivateKey:
    """Return a new RSA key of 2,048 bits."""
    return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)


def new_authority(name: str, now: datetime) -> Authority:
    """Return a new self-signed authority."""
    key = new_ec_key()
    subject = _name(name)
    builder = _builder(subject, subject, key, now, CA_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(certificates=True), critical=True)
    return Authority(key, builder.sign(key, hashes.SHA256()))


def signing_certificate(
    authority: Authority, key: PrivateKey, name: str, now: datetime, days: int = LEAF_DAYS
) -> x509.Certificate:
    """Return a certificate good for signing messages and nothing else."""
    builder = _leaf(authority, key, name, now, days)
    return builder.sign(authority.key, hashes.SHA256())


def self_signed(key: ec.EllipticCurvePrivateKey, name: str, now: datetime) -> x509.Certificate:
    """Return a certificate for ``key`` by itself: trust comes from its being registered."""
    subject = _name(name)
    builder = _builder(subject, subject, key, now, LEAF_DAYS)
    builder = builder.add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    )
    return builder.add_extension(_usage(), critical=True).sign(key, hashes.SHA256())


def tls_certificate(
    authority: Authority,
    key: PrivateKey,
    name: str,
    now: datetime,
    *,
    hosts: tuple[str, ...] = (),
    client: bool = False,
    days: int = LEAF_DAYS,
) -> x509.Certificate:
    """Return a certificate for TLS: for a server at ``hosts``, for a ``client``, or for both."""
    uses = [ExtendedKeyUsageOID.SERVER_AUTH] if hosts else []
    uses += [ExtendedKeyUsageOID.CLIENT_AUTH] if client else []
    builder = _leaf(authority, key, name, now, days)
    builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    if hosts:
        names = x509.SubjectAlternativeName([_host(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def load_authority(folder: Path) -> Authority:
    """Return the authority kept in ``folder``.

    Raises:
        OSError: a file is not there.
        ValueError: a file is not what it should be.
    """
    key = load_pem_private_key((folder / "ca.key.pem").read_bytes(), password=None)
    certificate = x509.load_pem_x509_certificate((folder / "ca.cert.pem").read_bytes())
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("ca.key.pem is not a key on an elliptic curve")  # noqa: TRY004 - a file is wrong
    return Authority(key, certificate)


def key_pem(key: PrivateKey) -> bytes:
    """Return ``key`` as unencrypted PKCS #8; its file's mode protects it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: PrivateKey) -> bytes:
    """Return the public half of ``key``."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return ``certificate`` in PEM."""
    return certificate.public_bytes(Encoding.PEM)


def write_secret(path: Path, content: bytes) -> None:
    """Write a new file that its owner alone can read.

    Raises:
        FileExistsError: the file is there; a key is never written over.
    """
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(content)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "FAME"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, certificates: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _leaf(
    authority: Authority, key: PrivateKey, name: str, now: datetime, days: int
) -> x509.CertificateBuilder:
    issuer = authority.certificate
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    by = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    builder = _builder(_name(name), issuer.subject, key, now, days)
    builder = builder.add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    )
    return builder.add_extension(by, critical=False).add_extension(_usage(), critical=True)

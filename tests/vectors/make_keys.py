"""Make the keys and certificates of the vectors: run once, and the files are checked in.

They protect nothing and are registered nowhere but in tests.
"""

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

KEYS = Path(__file__).parent / "keys"
Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def _rsa(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def certificate_of(
    key: Private,
    name: str,
    *,
    years: tuple[int, int] = (2020, 2100),
    signs: bool = True,
    serial: int = 1,
) -> x509.Certificate:
    """Return a self-signed certificate, good from the first to the last of ``years``."""
    holder = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=not signs,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = x509.CertificateBuilder().subject_name(holder).issuer_name(holder)
    builder = builder.public_key(key.public_key()).serial_number(serial)
    builder = builder.not_valid_before(datetime(years[0], 1, 1, tzinfo=UTC))
    builder = builder.not_valid_after(datetime(years[1], 1, 1, tzinfo=UTC))
    return builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())


def _write(name: str, key: Private, certificate: x509.Certificate) -> None:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (KEYS / f"{name}.key.pem").write_bytes(pem)
    (KEYS / f"{name}.cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))


def main() -> None:
    """Write a key and a certificate for each role that the vectors need."""
    KEYS.mkdir(exist_ok=True)
    for name, key in (
        ("sender-rsa", _rsa()),
        ("sender-p256", ec.generate_private_key(ec.SECP256R1())),
        ("sender-p384", ec.generate_private_key(ec.SECP384R1())),
        ("sender-p521", ec.generate_private_key(ec.SECP521R1())),
        ("sender-weak", _rsa(1024)),
        ("sender-revoked", _rsa()),
        ("other-rsa", _rsa()),
        ("stranger-rsa", _rsa()),
    ):
        _write(name, key, certificate_of(key, name))
    key = _rsa()
    _write("sender-expired", key, certificate_of(key, "sender-expired", years=(2020, 2024)))
    key = _rsa()
    _write("sender-cipher", key, certificate_of(key, "sender-cipher", signs=False))


if __name__ == "__main__":
    main()

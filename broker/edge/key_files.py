"""Read the broker's own keys, and other files that it cannot do without."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from broker.core.errors import Permanent
from broker.core.reasons import Reason
from broker.core.signing import SigningKey, load_signing_key


def read_file(path: Path) -> bytes:
    """Return the bytes of a file that the broker cannot do without.

    Raises:
        Permanent: it cannot be read; the words name it.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise Permanent(Reason.INTERNAL, f"cannot read {path}: {error.strerror}") from error


def receipt_key(key: Path, certificate: Path) -> SigningKey:
    """Return the key of receipts.

    Raises:
        Permanent: a file cannot be read, or the two are no pair.
    """
    try:
        return load_signing_key(read_file(key), read_file(certificate))
    except ValueError as error:
        detail = f"{key} and {certificate} are no pair of a key and its certificate"
        raise Permanent(Reason.INTERNAL, detail) from error


def token_key(path: Path) -> EllipticCurvePrivateKey:
    """Return the key of tokens.

    Raises:
        Permanent: the file cannot be read, or holds no such key.
    """
    try:
        key = load_pem_private_key(read_file(path), password=None)
    except (ValueError, TypeError) as error:
        raise Permanent(Reason.INTERNAL, f"{path} is not a private key") from error
    if not isinstance(key, EllipticCurvePrivateKey):
        raise Permanent(Reason.INTERNAL, f"{path} is not an ECDSA key on P-256")
    return key

"""Message bodies at rest: sealed under a data key per message, itself wrapped by a master key.

AES-256-GCM for the body, bound to the ids it belongs to, so that ciphertexts cannot be
swapped; RFC 3394 key wrap for the data key. Destroying the wrapped key erases the message
wherever a copy of the row may be: in backups, replicas and topics.
"""

import hashlib
import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from broker.core.errors import Permanent
from broker.core.reasons import Reason

KEY_BYTES = 32
_NONCE_BYTES = 12
_ID_HEX_DIGITS = 16


@dataclass(frozen=True, slots=True)
class DataKey:
    """The key of one message's bodies, and the form in which it is stored.

    It seals the message as sent and its reduced forms: at most 65 texts, so random nonces
    of 96 bits do not meet.
    """

    kek_id: str
    wrapped: bytes = field(repr=False)
    _cipher: AESGCM = field(repr=False)

    def seal(self, body: bytes, *context: str) -> bytes:
        """Return nonce, ciphertext and tag of ``body``, bound to the ids in ``context``."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, body, _associated(context))

    def open(self, sealed: bytes, *context: str) -> bytes:
        """Return the body that was sealed with the same ``context``.

        Raises:
            Permanent: it was changed, or belongs elsewhere.
        """
        nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, ciphertext, _associated(context))
        except (InvalidTag, ValueError):
            raise Permanent(Reason.INTERNAL, "a stored body does not open: changed?") from None


def _associated(context: tuple[str, ...]) -> bytes:
    return "\0".join(("fame:body:1", *context)).encode()


class KeyRing:
    """The master keys of a broker: the first wraps, all unwrap. Rotation puts one in front."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise Permanent(Reason.INTERNAL, f"a master key has {KEY_BYTES} bytes")
        self._keys = {_key_id(key): key for key in keys}
        self.current = _key_id(keys[0])

    @classmethod
    def load(cls, *files: Path) -> Self:
        """Return the ring of the keys in ``files``, each 64 hexadecimal digits.

        Raises:
            Permanent: a file cannot be read or is not a key; its content is not repeated.
        """
        return cls([read_key(file) for file in files])

    def new_key(self) -> DataKey:
        """Return a new data key, wrapped by the current master key."""
        key = os.urandom(KEY_BYTES)
        wrapped = aes_key_wrap(self._keys[self.current], key)
        return DataKey(self.current, wrapped, AESGCM(key))

    def unwrap(self, kek_id: str, wrapped: bytes | None) -> DataKey:
        """Return the data key that is stored as ``wrapped``.

        Raises:
            Permanent: erased (``wrapped`` is None), the master key is not in the ring, or
                the stored form was changed.
        """
        if wrapped is None:
            raise Permanent(Reason.ERASED, "the key of the message was destroyed")
        master = self._keys.get(kek_id)
        if master is None:
            raise Permanent(Reason.INTERNAL, f"master key {kek_id} is not loaded")
        try:
            return DataKey(kek_id, wrapped, AESGCM(aes_key_unwrap(master, wrapped)))
        except InvalidUnwrap:
            raise Permanent(Reason.INTERNAL, "a stored key does not unwrap: changed?") from None


def _key_id(key: bytes) -> str:
    """Return the name of a master key, made from it: names and keys cannot be mixed up."""
    return hmac.digest(key, b"fame:kek-id:1", hashlib.sha256).hex()[:_ID_HEX_DIGITS]


def read_key(file: Path) -> bytes:
    """Return the 32-byte key in ``file``, which holds 64 hexadecimal digits.

    Raises:
        Permanent: it cannot be read or holds something else, which is not repeated.
    """
    try:
        key = bytes.fromhex(file.read_text("ascii").strip())
    except OSError as error:
        raise Permanent(Reason.INTERNAL, f"cannot read the key file {file}") from error
    except ValueError:
        raise Permanent(Reason.INTERNAL, f"{file} is not 64 hexadecimal digits") from None
    if len(key) != KEY_BYTES:
        raise Permanent(Reason.INTERNAL, f"{file} is not 64 hexadecimal digits")
    return key

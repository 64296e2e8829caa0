"""The name by which a person is known outside the payload: a keyed hash, per partnership.

Without the key a pseudonym cannot be tried against a list of NHS numbers (UK GDPR
Art. 4(5): the additional information is kept apart). The same person gets the same
pseudonym, so order, consent and disclosure can be followed without naming anybody.
"""

import hashlib
import hmac

from broker.core.identity import SubjectRef

_DOMAIN = b"fame:subject:1\0"  # one key, one use: no other hash made with it can be equal
_HEX_DIGITS = 32  # 128 bits: no two people share one by chance


def subject_ref(key: bytes, subject_key: str) -> SubjectRef:
    """Return the pseudonym of the person whose canonical text is ``subject_key``."""
    digest = hmac.digest(key, _DOMAIN + subject_key.encode(), hashlib.sha256)
    return SubjectRef(digest.hex()[:_HEX_DIGITS])

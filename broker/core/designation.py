"""Who may sign for an agency: its first person is named with the agency's own key (ISP-3.15).

Later ones are named by one before. The first has nobody before, so the agency says who it is
by a second signature, made with the key that signs its messages; the certificate of that key
was looked at when the agency was registered. Whoever writes the log has no such key.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from cryptography import x509

from broker.core.agency import AgencyLookup
from broker.core.instant import rfc3339
from broker.core.ledger import canonical
from broker.core.policy_log import (
    Act,
    PrivateKey,
    detached,
    fingerprint,
    is_detached,
    of_base64,
    refused,
    to_base64,
)
from broker.core.trust import flaw

CERTIFICATE, SIGNATURE = "agency_certificate", "agency_signature"


@dataclass(frozen=True, slots=True)
class First:
    """The naming of an agency's first person; ``confirmed_by`` is the agency's certificate."""

    act: Act
    confirmed_by: str  # SHA-256, in hex


def confirmed(act: Act, key: PrivateKey, certificate: x509.Certificate) -> Act:
    """Return ``act`` with the signature of the agency, before the person signs it."""
    signature = detached(_said(act), key, fingerprint(certificate))
    brought = {CERTIFICATE: to_base64(certificate), SIGNATURE: signature}
    return replace(act, detail={**act.detail, **brought})


def first_of(act: Act) -> First:
    """Return who confirms ``act``, whose signature is good; whose it is has to be seen yet.

    Raises:
        Mistake: nobody confirms it.
    """
    try:
        certificate = of_base64(act.detail[CERTIFICATE])
    except (KeyError, ValueError, TypeError) as error:
        raise _not_confirmed(act) from error
    if not is_detached(str(act.detail.get(SIGNATURE)), _said(act), certificate):
        raise _not_confirmed(act)
    return First(act, fingerprint(certificate))


def require_registered(firsts: Iterable[First], agencies: AgencyLookup, since: int) -> None:
    """Require that agencies confirmed the namings behind line ``since`` with registered keys.

    Those before were seen when they came: certificates go out of use and leave the register.

    Raises:
        Mistake: one was not.
    """
    for first in firsts:
        act = first.act
        agency = agencies.get(act.party)
        keys = agency.keys if agency is not None else ()
        good = any(
            key.fingerprint == first.confirmed_by and flaw(key, act.at) is None for key in keys
        )
        if act.number > since and not good:
            cure = "what confirms it is no signing certificate registered for"
            raise refused(act.number, f"{cure} {act.party}, or was not good then")


def _said(act: Act) -> bytes:
    """Return what the agency signs: who may sign for it, and from when."""
    detail = {
        key: value for key, value in act.detail.items() if key not in (CERTIFICATE, SIGNATURE)
    }
    return canonical(
        {
            "act": act.act,
            "at": rfc3339(act.at),
            "party": str(act.party),
            "person": act.person,
            "detail": detail,
        }
    )


def _not_confirmed(act: Act) -> Exception:
    cure = f"the first designated person is confirmed by {act.party}, with the key of its messages"
    return refused(act.number, cure)

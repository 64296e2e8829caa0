"""A clause: what one flow of one sharing protocol says of one message type between two agencies."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from broker.core.gateway import Gateway
from broker.core.identity import AgencyId
from broker.core.outcome import FieldRule, Permitted
from broker.core.sharing import PractitionerRule, SharingProtocol

Pair = tuple[AgencyId, AgencyId, str]  # sender, recipient, message type


@dataclass(frozen=True, slots=True)
class Clause:
    """What one flow of one sharing protocol says of one message type.

    ``chain`` is the sharing protocol with those it stands on, down to tier 0. All of them stand
    from ``stands_from`` (included) to ``stands_until`` (excluded), and the review of one is due
    from ``overdue_from``. ``permitted`` is the decision under each gateway, made beforehand.
    """

    clause_id: str
    protocol: SharingProtocol
    chain: tuple[SharingProtocol, ...]
    message_type: str
    versions: frozenset[str]
    purposes: frozenset[str]
    gateways: tuple[Gateway, ...]
    beside: tuple[Gateway, ...]  # lawful bases and conditions that it needs as well
    consent: str
    sensitive_consent: str
    consent_kind: str
    asks_consent: bool  # some messages pass only with explicit consent
    fields: tuple[FieldRule, ...]
    mandatory: tuple[str, ...]
    practitioner: PractitionerRule | None
    asks_consent_reason: bool
    asks_categories: bool
    refuses_shielded: bool
    stands_from: datetime
    stands_until: datetime
    overdue_from: datetime
    permitted: Mapping[str, Permitted]

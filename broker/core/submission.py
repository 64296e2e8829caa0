"""A message on its way into the store, with all that was decided about it, and the answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from broker.core.identity import AgencyId, MessageId, SubjectRef, SubmissionId
from broker.core.message import ValidMessage
from broker.core.outcome import Permitted, RecipientVerdict
from broker.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class Submission:
    """A valid message with its verdicts, ready to be committed.

    ``received_at`` was read when the bytes had come, ``decided_at`` after the facts that the
    decision judged; both are aware, in UTC. ``peer`` names who brought the message: the
    fingerprint of a certificate or the id of an OAuth client. ``stated`` is when the payload
    says that clocks started, by element.
    """

    submission_id: SubmissionId
    message: ValidMessage = field(repr=False)
    verdicts: tuple[RecipientVerdict, ...] = field(repr=False)
    subject_ref: SubjectRef | None
    received_at: datetime
    decided_at: datetime
    expires_at: datetime
    register_digest: str
    trace_id: str
    peer: str
    stated: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the clauses relied on want the sender to know, each once."""
        said = (
            warning
            for verdict in self.verdicts
            if isinstance(verdict.decision, Permitted)
            for warning in verdict.decision.warnings
        )
        return tuple(dict.fromkeys(said))


@dataclass(frozen=True, slots=True)
class Accepted:
    """A submission that is durably kept, refusals included.

    ``duplicate``: the same message was kept before; ``submission_id`` and ``receipt`` are
    those of the first time.
    """

    submission_id: SubmissionId
    receipt: bytes = field(repr=False)
    duplicate: bool
    refused_all: bool


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What became of one delivery: a level (L2, L3, L4), or the state that it ended in."""

    submission_id: SubmissionId
    message_id: MessageId
    sender: AgencyId
    recipient: AgencyId
    message_digest: bytes
    level: str
    at: datetime
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry stands in the ledger: its number, from 0, and its RFC 6962 leaf hash."""

    sequence: int
    leaf: bytes


@dataclass(frozen=True, slots=True)
class Committed:
    """What a transaction brought: whom to deliver to, and which conversations moved on.

    ``missed``: there may have been more than that, so that everybody looks again.
    """

    recipients: frozenset[AgencyId]
    correlations: frozenset[str]
    missed: bool = False

"""The story of one submission: from bytes to a receipt, one step a function.

Nothing is kept before `Store.submit`; everything is kept, refusals too, once it returns.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

from sqlalchemy import Connection

from broker.core.access import names_controllers
from broker.core.agency import MAILBOX, AgencyLookup
from broker.core.clock_facts import stated_starts
from broker.core.consent import Consent
from broker.core.decision import asks_consent, decide
from broker.core.errors import Rejection
from broker.core.examine import Step, examine
from broker.core.handover import answer_of
from broker.core.identity import AgencyId, SubjectRef, SubmissionId
from broker.core.limits import Limits
from broker.core.message import Address, Header, ValidMessage
from broker.core.minimise import minimise
from broker.core.outcome import Decision, Permitted, RecipientVerdict
from broker.core.override import Override, override_for
from broker.core.protocol import Register
from broker.core.pseudonym import subject_ref
from broker.core.reasons import Reason
from broker.core.recorded import Records
from broker.core.schema import SchemaSet
from broker.core.signature import Verifier
from broker.core.signing import SigningKey, sign_envelope
from broker.core.submission import Accepted, Submission
from broker.edge import handovers
from broker.edge.crash import crash_point
from broker.edge.ids import new_id
from broker.edge.ledger import Ledger
from broker.edge.metrics import Metrics
from broker.edge.peers import Peer
from broker.edge.telemetry import Trace
from broker.ports import Clock, Consents, Handovers

Also = Callable[[Connection, Ledger], object]

# Below this, handing over to a thread costs more than examining (0.2 ms) blocks the loop.
THREAD_FROM_BYTES: Final = 64 * 1024

_POINTS: Final = {Step.PARSED: "K3", Step.VERIFIED: "K4", Step.FRESH: "K5", Step.VALIDATED: "K6"}


class Registers(Protocol):
    """Holds the register of the moment."""

    @property
    def current(self) -> Register:
        """Return the snapshot in force."""
        ...

    @property
    def deciding(self) -> Register:
        """Return the same, to decide by.

        Raises:
            Transient: another node follows a later policy.
        """
        ...


class SubmissionStore(Protocol):
    """Keeps submissions."""

    async def submit(self, submission: Submission, also: Also | None = None) -> Accepted:
        """Keep ``submission`` durably, with what ``also`` does, and return its receipt."""
        ...


class Task(Protocol):
    """What a message to the broker itself asks for."""

    def act(self, conn: Connection, ledger: Ledger) -> None:
        """Do it, in the transaction that keeps the message."""
        ...

    async def follow(self) -> None:
        """Do what follows once that is committed."""
        ...


class Clerk(Protocol):
    """Does what messages to the broker itself ask for."""

    def task(self, message: ValidMessage, subject: SubjectRef | None, peer: str) -> Task | None:
        """Return what ``message`` asks for; None: nothing.

        Raises:
            Rejection: it cannot be done.
        """
        ...

    def overridden(self, conn: Connection, ledger: Ledger, submission: Submission) -> None:
        """Record what passed by a decision to share without consent, and tell of it."""
        ...


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided about a message that is kept now, and what it was decided from."""

    message: ValidMessage = field(repr=False)
    submission_id: SubmissionId
    register: Register
    subject: SubjectRef | None
    consents: Collection[Consent] | None  # None: nobody looked
    override: Override | None
    decisions: Mapping[AgencyId, Decision]
    at: datetime
    taken: frozenset[AgencyId] = frozenset()  # who has taken it, where that is asked


class Audit(Protocol):
    """Tells agencies who was shown that they work with somebody."""

    def tell(self, conn: Connection, ledger: Ledger, submission: Submission) -> None:
        """Do it, in the transaction that keeps what shows it."""
        ...


class Onlooker(Protocol):
    """Is told what was decided, once it is kept; it changes nothing."""

    def offer(self, decided: Decided) -> None:
        """Take note. It neither waits nor raises."""
        ...


@dataclass(frozen=True, slots=True)
class Secrets:
    """Keys of the submit path. ``broker`` signs reduced envelopes; the others key hashes."""

    broker: SigningKey = field(repr=False)
    pseudonym: bytes = field(repr=False)
    salt: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Submitted:
    """A submission that is kept, and the header it was kept under."""

    accepted: Accepted
    header: Header


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the decisions about one message are made from."""

    register: Register
    recipients: tuple[AgencyId, ...]
    subject: SubjectRef | None
    consents: Collection[Consent] | None  # None: no clause rests on any, so nobody looked
    override: Override | None
    taken: frozenset[AgencyId]


@dataclass(frozen=True, slots=True)
class Intake:
    """Takes submissions from peers that have been identified. ``broker``: its own agency id."""

    broker: AgencyId
    registers: Registers
    schemas: SchemaSet
    verifier: Verifier
    consents: Consents
    handovers: Handovers
    store: SubmissionStore
    clock: Clock
    secrets: Secrets
    limits: Limits
    threads: Executor
    metrics: Metrics
    records: Records
    clerk: Clerk | None = None
    onlooker: Onlooker | None = None
    audit: Audit | None = None

    async def submit(self, body: bytes, peer: Peer, trace: Trace) -> Submitted:
        """Take one submission to the end: kept, with a verdict for each recipient.

        Raises:
            Rejection: it is not a valid message, or its id was used for another.
            Fault: ours; nothing was kept.
        """
        received_at = self.clock.now()
        message = await self._examine(body, peer, received_at)
        facts = await self._gather(message)
        # The clock is read after the facts: a decision judges what it has seen (§3.4).
        decided_at = self.clock.now()
        decisions = self._decide(message, facts, decided_at)
        made = self.records.of(message, decided_at, facts.taken, facts.override)
        verdicts = tuple(
            replace(verdict, record=made(verdict.recipient, facts.consents))
            for verdict in self._minimise(message, facts, decisions)
        )
        task = self._task(message, facts, verdicts, peer)
        header = message.header
        default_expiry = received_at + timedelta(seconds=self.limits.lifetime_s_default)
        accepted = await self._commit(
            Submission(
                submission_id=SubmissionId(new_id()),
                message=message,
                verdicts=verdicts,
                subject_ref=facts.subject,
                received_at=received_at,
                decided_at=decided_at,
                expires_at=header.expires_at or default_expiry,
                register_digest=facts.register.digest,
                trace_id=trace.trace_id,
                peer=peer.name,
                stated=stated_starts(message, verdicts, facts.register),
            ),
            task,
        )
        if self.onlooker is not None and not accepted.duplicate:
            self.onlooker.offer(
                Decided(
                    message=message,
                    submission_id=accepted.submission_id,
                    register=facts.register,
                    subject=facts.subject,
                    consents=facts.consents,
                    override=facts.override,
                    decisions=dict(decisions),
                    at=decided_at,
                    taken=facts.taken,
                )
            )
        return Submitted(accepted, header)

    def _task(
        self,
        message: ValidMessage,
        facts: _Facts,
        verdicts: tuple[RecipientVerdict, ...],
        peer: Peer,
    ) -> Task | None:
        """Return what the broker itself has to do, if it may have the message."""
        if self.clerk is None or not any(verdict.kept for verdict in verdicts):
            return None
        return self.clerk.task(message, facts.subject, peer.name)

    async def _examine(self, body: bytes, peer: Peer, now: datetime) -> ValidMessage:
        started = time.perf_counter()
        agencies = self.registers.current.agencies
        if len(body) < THREAD_FROM_BYTES:
            message = self._examined(body, peer, agencies, now)
        else:
            loop = asyncio.get_running_loop()
            message = await loop.run_in_executor(
                self.threads, self._examined, body, peer, agencies, now
            )
        self.metrics.examine.observe(time.perf_counter() - started)
        return message

    def _examined(
        self, body: bytes, peer: Peer, agencies: AgencyLookup, now: datetime
    ) -> ValidMessage:
        return examine(
            body,
            peer_agencies=peer.agencies,
            agencies=agencies,
            schemas=self.schemas,
            verifier=self.verifier,
            limits=self.limits,
            now=now,
            done=_examined,
        )

    async def _gather(self, message: ValidMessage) -> _Facts:
        subject = message.subject
        pseudonym = None if subject is None else subject_ref(self.secrets.pseudonym, subject.key)
        register = self.registers.deciding
        header = message.header
        recipients = resolve(header.recipients, register, self.limits.recipients_max)
        consents: Collection[Consent] | None = () if pseudonym is None else None
        override = None
        asking = (register, header.sender)
        said = (header.message_type, header.purpose)
        if any(asks_consent(*asking, to, *said) for to in recipients):
            consents = await self.consents.held(pseudonym)
            if header.decision_ref is not None:
                found = await self.consents.override(header.decision_ref)
                override = override_for(found, pseudonym, header.sender)
        taken = await self.handovers.taken_by(message, pseudonym, recipients)
        return _Facts(register, recipients, pseudonym, consents, override, taken)

    def _decide(
        self, message: ValidMessage, facts: _Facts, now: datetime
    ) -> list[tuple[AgencyId, Decision]]:
        started = time.perf_counter()
        decisions = [
            (recipient, self._decision(message, recipient, facts, now))
            for recipient in facts.recipients
        ]
        crash_point("K7")
        self.metrics.decide.observe(time.perf_counter() - started)
        for _recipient, decision in decisions:
            self.metrics.decided(decision)
        return decisions

    def _decision(
        self, message: ValidMessage, recipient: AgencyId, facts: _Facts, now: datetime
    ) -> Decision:
        return decide(
            message,
            recipient,
            facts.register,
            facts.consents or (),
            now,
            schemas=self.schemas,
            override=facts.override,
            taken=recipient in facts.taken,
        )

    def _minimise(
        self, message: ValidMessage, facts: _Facts, decisions: list[tuple[AgencyId, Decision]]
    ) -> tuple[RecipientVerdict, ...]:
        started = time.perf_counter()
        verdicts = tuple(self._verdict(message, facts, *decided) for decided in decisions)
        crash_point("K8")
        self.metrics.minimise.observe(time.perf_counter() - started)
        return verdicts

    def _verdict(
        self, message: ValidMessage, facts: _Facts, recipient: AgencyId, decision: Decision
    ) -> RecipientVerdict:
        if not isinstance(decision, Permitted):
            return RecipientVerdict(recipient, decision)
        if recipient == self.broker:
            return RecipientVerdict(recipient, decision, kept=True)
        route = facts.register.agencies[recipient].delivery
        collected = route.adapter == MAILBOX.adapter
        minimised = minimise(message, decision, self.schemas, self.secrets.salt, broker=self.broker)
        if minimised.body is None:
            return RecipientVerdict(recipient, decision, collected=collected)
        reduced = sign_envelope(minimised.body, self.secrets.broker)
        withheld = tuple(item.path for item in minimised.withheld)
        return RecipientVerdict(recipient, decision, reduced, withheld, collected)

    async def _commit(self, submission: Submission, task: Task | None) -> Accepted:
        started = time.perf_counter()
        accepted = await self.store.submit(submission, self._also(submission, task))
        if task is not None:
            await task.follow()
        self.metrics.commit.observe(time.perf_counter() - started)
        return accepted

    def _also(self, submission: Submission, task: Task | None) -> Also | None:
        """Return what is done in the transaction that keeps ``submission``; mostly nothing."""
        acts: list[Also] = [] if task is None else [task.act]
        clerk, answer = self.clerk, answer_of(submission.message)
        if clerk is not None and any(_overridden(verdict) for verdict in submission.verdicts):
            acts.append(partial(clerk.overridden, submission=submission))
        if answer is not None:
            acts.append(partial(handovers.keep, submission=submission, answer=answer))
        if self.audit is not None and names_controllers(submission.message.header.message_type):
            acts.append(partial(self.audit.tell, submission=submission))
        return (lambda conn, ledger: [act(conn, ledger) for act in acts]) if acts else None


def _overridden(verdict: RecipientVerdict) -> bool:
    decision = verdict.decision
    return isinstance(decision, Permitted) and decision.override is not None


def _examined(step: Step) -> None:
    crash_point(_POINTS[step])


def resolve(
    addresses: tuple[Address, ...], register: Register, recipients_max: int
) -> tuple[AgencyId, ...]:
    """Return the agencies that ``addresses`` stand for, each once, in the order given.

    Raises:
        Rejection: a group has no members, or the groups have too many together.
    """
    recipients: dict[AgencyId, None] = {}
    for address in addresses:
        members = register.resolve(address)
        if not members:
            raise Rejection(
                Reason.RECIPIENT_UNKNOWN, "no active agency of that type serves that area"
            )
        recipients.update(dict.fromkeys(members))
    if len(recipients) > recipients_max:
        raise Rejection(Reason.ENVELOPE, f"the recipients are more than {recipients_max} agencies")
    return tuple(recipients)

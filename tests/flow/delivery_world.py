"""A broker's delivering half with a real store, real rules and real messages.

The far side is scripted: it says what a test tells it to. Time passes when a test says so.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import select

from adapters.contract import Adapter, Delivered, Delivery, Health, Result
from adapters.mailbox import Mailbox
from broker.core.agency import Agency, DeliveryRoute, registered_key
from broker.core.consent import Consent
from broker.core.identity import AgencyId, MessageId, SubjectRef
from broker.core.limits import LIMITS
from broker.core.message import Address, Header, Practitioner
from broker.core.override import Override
from broker.core.protocol import Register, compile_register
from broker.core.receipt import Issuer
from broker.core.recorded import Records
from broker.core.samples import sample_payload
from broker.core.schema import SchemaSet
from broker.core.sharing import SharingProtocol
from broker.core.signature import ProfileVerifier
from broker.core.signing import (
    SigningKey,
    build_envelope,
    load_signing_key,
    sign_canonical,
    sign_envelope,
)
from broker.edge import tables
from broker.edge.attempts import Attempts, Patience
from broker.edge.delivery_runtime import DeliveryRuntime, DeliverySettings
from broker.edge.disclosure import Discloser, Keys
from broker.edge.handovers import HandoverBook
from broker.edge.ids import new_id
from broker.edge.intake import Intake, Secrets, Submitted
from broker.edge.metrics import Metrics
from broker.edge.outcomes import Recorder
from broker.edge.peers import Peer
from broker.edge.registers import load_register
from broker.edge.reports import Reporter
from broker.edge.schemas import load_schemas
from broker.edge.sealing import KeyRing
from broker.edge.store import Store
from broker.edge.telemetry import Trace
from broker.edge.transport import InProcessTransport

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
BROKER = AgencyId("fame-broker")
CSC, OTHER_CSC = AgencyId("sunderland-csc"), AgencyId("gateshead-csc")
YOT, POLICE, SCHOOL = (
    AgencyId("sunderland-yot"),
    AgencyId("northumbria-police"),
    AgencyId("hylton-school"),
)
HR, PORTAL = AgencyId("gateshead-hr"), AgencyId("ne-jobs-portal")
SYSTEMS = {
    CSC: "liquidlogic",
    OTHER_CSC: "mosaic",
    YOT: "careworks",
    POLICE: "niche",
    SCHOOL: "sims",
    HR: "itrent",
    PORTAL: "portal",
    BROKER: "broker",
}
PURPOSES = {
    "VacancyPublished": "JOBS",
    "Referral": "CP",
    "ReferralAcknowledgement": "CP",
    "ReferralOutcome": "CP",
    "YOTCheckRequest": "YJ",
    "YOTCheckResponse": "YJ",
    "NonDeliveryReport": "AUDIT",
    "InformationRequest": "CP",
}
SALT = bytes(range(32))
KEK = bytes(range(1, 33))


@cache
def signing_key(agency: AgencyId) -> SigningKey:
    private_key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, agency)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=3650))
        .sign(private_key, hashes.SHA256())
    )
    pem = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return load_signing_key(pem, certificate.public_bytes(Encoding.PEM))


@cache
def schemas() -> SchemaSet:
    return load_schemas(ROOT / "schemas")


@cache
def register() -> Register:
    """Return the sandbox's register, with a certificate for every agency that sends here."""
    plain = load_register(ROOT / "protocols")
    agencies = dict(plain.agencies)
    for agency_id in SYSTEMS:
        certificate = x509.load_der_x509_certificate(signing_key(agency_id).certificate_der)
        key = registered_key(certificate.public_bytes(Encoding.PEM))
        agencies[agency_id] = replace(agencies[agency_id], keys=(key,))
    return compile_register(
        agencies=agencies,
        gateways=plain.gateways,
        purposes=plain.purposes,
        lists=plain.lists,
        protocols=plain.protocols.values(),
        digest=plain.digest,
        calendar=plain.calendar,
    )


class FrozenClock:
    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def pass_(self, **amount: float) -> None:
        self.at += timedelta(**amount)


class Registers:
    """The register in force; a test puts another in force."""

    def __init__(self) -> None:
        self.current = register()
        self.fault: Exception | None = None

    @property
    def deciding(self) -> Register:
        if self.fault is not None:
            raise self.fault
        return self.current

    def change_agency(self, agency_id: AgencyId, **values: object) -> None:
        agencies = dict(self.current.agencies)
        agencies[agency_id] = replace(agencies[agency_id], **values)  # type: ignore[arg-type]
        self.put(agencies=agencies)

    def put(
        self,
        *,
        agencies: Mapping[AgencyId, Agency] | None = None,
        protocols: Iterable[SharingProtocol] | None = None,
    ) -> None:
        """Put a changed register in force, compiled as a reload does; its digest is another."""
        now = self.current
        self.current = compile_register(
            agencies=now.agencies if agencies is None else agencies,
            gateways=now.gateways,
            purposes=now.purposes,
            lists=now.lists,
            protocols=now.protocols.values() if protocols is None else protocols,
            digest=f"{int(now.digest, 16) ^ 1:064x}",
            calendar=now.calendar,
        )


class Consents:
    def __init__(self) -> None:
        self.fault: Exception | None = None

    async def held(self, subject: SubjectRef | None) -> Collection[Consent]:  # noqa: ARG002
        if self.fault is not None:
            raise self.fault
        return ()

    async def override(self, decision_ref: str) -> Override | None:  # noqa: ARG002
        return None


Behaviour = Callable[[Delivery], Awaitable[Result]]


async def take(_delivery: Delivery) -> Result:
    return Delivered("scripted")


class FarSide:
    """An agency's system: remembers what it was given, and answers as it is told."""

    def __init__(self) -> None:
        self.given: list[Delivery] = []
        self.behave: Behaviour = take
        self.came = asyncio.Event()

    def answer(self, *results: Result) -> None:
        """Answer so, in this order; the last answer is repeated."""
        left = list(results)

        async def behave(_delivery: Delivery) -> Result:
            return left.pop(0) if len(left) > 1 else left[0]

        self.behave = behave

    async def deliver(self, delivery: Delivery) -> Result:
        self.given.append(delivery)
        self.came.set()
        return await self.behave(delivery)

    async def check(self) -> Health:
        return Health(ok=True)

    async def aclose(self) -> None:
        pass


class World:
    def __init__(self, folder: Path, patience: Patience, url: str | None = None) -> None:
        self.clock = FrozenClock()
        self.registers = Registers()
        self.consents = Consents()
        self.far: dict[AgencyId, FarSide] = {}
        self.observed: list[tuple[str, str]] = []
        self.patience = patience
        self._url = url or f"sqlite:///{folder / 'fame.db'}"
        self._threads = ThreadPoolExecutor(1)
        self.ring = KeyRing([KEK])
        self.issuer = Issuer(BROKER, lambda c: sign_canonical(c, signing_key(BROKER)))
        self.open()

    def open(self) -> None:
        """Start the broker's delivering half, for the first time or after a crash."""
        self.store = self.another_store()
        self.transport = InProcessTransport(lane_max=16)
        discloser = Discloser(
            broker=BROKER,
            store=self.store,
            registers=self.registers,
            consents=self.consents,
            handovers=HandoverBook(self.store),
            schemas=schemas(),
            keys=Keys(self.ring, signing_key(BROKER), SALT),
            clock=self.clock,
        )
        reporter = Reporter(BROKER, signing_key(BROKER), schemas())
        attempts = self.attempts = Attempts(
            store=self.store,
            discloser=discloser,
            recorder=Recorder(self.issuer, reporter, self.ring, self.clock),
            routes=self,
            clock=self.clock,
            patience=self.patience,
            rng=random.Random(1),  # noqa: S311 - jitter
            owner="test",
            observe=lambda *what: self.observed.append(what),
        )
        self.runtime = DeliveryRuntime(attempts, self.transport, DeliverySettings())
        self.service = self.runtime.service
        self.intake = Intake(
            broker=BROKER,
            registers=self.registers,
            schemas=schemas(),
            verifier=ProfileVerifier(),
            consents=self.consents,
            handovers=HandoverBook(self.store),
            store=self.store,
            clock=self.clock,
            secrets=Secrets(signing_key(BROKER), b"p" * 32, SALT),
            limits=LIMITS,
            threads=self._threads,
            metrics=Metrics(),
            records=Records(schemas()),
        )

    def another_store(self) -> Store:
        """Open the database once more, as another node does."""
        return Store.open(self._url, ring=self.ring, issuer=self.issuer)

    async def close(self) -> None:
        await self.runtime.stop(grace_s=0)
        await self.store.close()

    def adapter(self, agency: Agency) -> Adapter:
        if agency.delivery.adapter == "mailbox":
            return Mailbox()
        return self.far.setdefault(agency.agency_id, FarSide())

    def push_to(self, *agencies: AgencyId) -> FarSide:
        """Have these agencies' messages pushed, and return the first one's system."""
        for agency_id in agencies:
            self.registers.change_agency(agency_id, delivery=DeliveryRoute("webhook"))
            self.far.setdefault(agency_id, FarSide())
        return self.far[agencies[0]]

    async def send(
        self,
        message_type: str,
        sender: AgencyId,
        *recipients: AgencyId,
        seed: int = 1,
        person: int = 1,
        **header: object,
    ) -> Submitted:
        """Have ``sender`` sign and send a sample."""
        raw = envelope(
            message_type, sender, *recipients, seed=seed, person=person, now=self.clock.at, **header
        )
        peer = Peer(frozenset({sender}), "peer")
        return await self.intake.submit(raw, peer, Trace("c" * 32, "d" * 16))

    async def settle(self) -> None:
        """Deliver all that is due at this moment, with what follows from it."""
        while await self.runtime.relay.pump():
            await self.transport.settled()

    def park(self) -> None:
        """Leave in their lanes what the relay sends from now on."""
        self.runtime.relay._on_dispatch = lambda _recipient: None

    async def rows(self, of: Submitted) -> dict[AgencyId, dict[str, object]]:
        """Return the deliveries of a message, by recipient."""
        chosen = select(tables.delivery).where(
            tables.delivery.c.message == of.accepted.submission_id
        )
        found = await self.store.read(lambda conn: conn.execute(chosen).mappings().all())
        return {row["recipient"]: dict(row) for row in found}

    async def row(self, of: Submitted) -> dict[str, object]:
        (row,) = (await self.rows(of)).values()
        return row

    async def levels(self, of: Submitted) -> list[str]:
        """Return what there is evidence of, in the order of the ledger."""
        chosen = (
            select(tables.evidence.c.level)
            .where(tables.evidence.c.message == of.accepted.submission_id)
            .order_by(tables.evidence.c.ledger_seq)
        )
        return await self.store.read(lambda conn: list(conn.execute(chosen).scalars()))

    async def reports(self, to: AgencyId) -> list[dict[str, object]]:
        """Return the non-delivery reports that lie in the mailbox of ``to``."""
        listed = await self.service.mailbox_list(to, 50, None)
        return [one for one in listed if one["message_type"] == "NonDeliveryReport"]


def envelope(
    message_type: str,
    sender: AgencyId,
    *recipients: AgencyId,
    seed: int = 1,
    person: int = 1,
    now: datetime = NOW,
    **header: object,
) -> bytes:
    """Return a signed sample."""
    values: dict[str, object] = {
        "message_id": MessageId(new_id()),
        "message_type": message_type,
        "schema_version": "1.0",
        "sender": sender,
        "system": SYSTEMS[sender],
        "recipients": tuple(Address(agency_id=to) for to in recipients),
        "purpose": PURPOSES[message_type],
        "created_at": now,
        "practitioner": Practitioner("P-1", "SOCIAL_WORKER", "ENHANCED", "AAL2"),
        "reason_for_access": "ASSESSMENT",
    }
    values.update(header)
    payload = sample_payload(message_type, seed, person_seed=person)
    unsigned = build_envelope(Header(**values), payload)  # type: ignore[arg-type]
    return sign_envelope(unsigned, signing_key(sender))


@asynccontextmanager
async def world(
    folder: Path, patience: Patience | None = None, url: str | None = None
) -> AsyncIterator[World]:
    patience = patience or Patience(attempts_max=3, backoff_s_first=1, timeout_s=15)
    made = World(folder, patience, url)
    try:
        yield made
    finally:
        await made.close()

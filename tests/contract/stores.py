"""Submissions made by hand, and stores to put them in."""

import asyncio
import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from lxml import etree
from sqlalchemy import Connection, create_engine, inspect

from broker.core.identity import AgencyId, MessageId, SubjectRef, SubmissionId
from broker.core.message import Address, Header, ValidMessage, VerifiedMessage
from broker.core.outcome import Permitted, RecipientVerdict, Refused
from broker.core.reasons import Reason
from broker.core.receipt import Issuer
from broker.core.signing import SigningKey, load_signing_key, sign_canonical
from broker.core.submission import Submission
from broker.edge.ids import new_id
from broker.edge.ledger import Ledger
from broker.edge.sealing import KeyRing
from broker.edge.store import Store, StoreSettings
from broker.edge.tables import clock_reader, metadata

NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
SENDER = AgencyId("sunderland-yot")
RECIPIENT = AgencyId("sunderland-csc")
OTHER = AgencyId("northumbria-police")
BROKER = AgencyId("fame-broker")
KEK = bytes(range(32))
PERMITTED = Permitted(
    protocol="northumbria-youth-justice", version=3, clause="2", gateway="CDA98_115", fields=()
)
REFUSED = Refused(Reason.NO_ISP, step=3, change="agree a sharing protocol", protocol=None)


@lru_cache
def signing_key() -> SigningKey:
    private_key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, BROKER)])
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


def sign(canonical: bytes) -> bytes:
    return sign_canonical(canonical, signing_key())


ISSUER = Issuer(broker=BROKER, sign=sign, sandbox=True)


def valid_message(message_id: str = "", content: bytes = b"<Envelope/>") -> ValidMessage:
    header = Header(
        message_id=MessageId(message_id or new_id()),
        message_type="YOTCheckRequest",
        schema_version="1.0",
        sender=SENDER,
        system="careworks",
        recipients=(Address(agency_id=RECIPIENT),),
        purpose="youth-justice",
        created_at=NOW - timedelta(seconds=2),
        correlation_id=None,
        acknowledge="L2",
    )
    verified = VerifiedMessage(
        raw=content,
        signed=content,
        root=etree.Element("Envelope"),
        header=header,
        digest=hashlib.sha256(content).digest(),
        signer="5" * 64,
        algorithm="ecdsa-sha256",
    )
    payload = etree.Element("{urn:fame:youth-offending:1.0}YOTCheckRequest")
    return ValidMessage(verified, header, payload, None, "c" * 64)


def submission(
    message_id: str = "",
    content: bytes = b"<Envelope/>",
    verdicts: tuple[RecipientVerdict, ...] = (RecipientVerdict(RECIPIENT, PERMITTED),),
) -> Submission:
    return Submission(
        submission_id=SubmissionId(new_id()),
        message=valid_message(message_id, content),
        verdicts=verdicts,
        subject_ref=SubjectRef("a" * 32),
        received_at=NOW,
        decided_at=NOW + timedelta(milliseconds=1),
        expires_at=NOW + timedelta(days=5),
        register_digest="d" * 64,
        trace_id="b" * 32,
        peer="mtls:" + "e" * 64,
    )


def with_header(given: Submission, **values: object) -> Submission:
    header = replace(given.message.header, **values)  # type: ignore[arg-type]
    return replace(given, message=replace(given.message, header=header))


def open_store(
    url: str,
    settings: StoreSettings | None = None,
    sign_with: Callable[[bytes], bytes] = sign,
) -> Store:
    issuer = replace(ISSUER, sign=sign_with)
    return Store.open(url, ring=KeyRing([KEK]), issuer=issuer, settings=settings)


def empty(url: str, *, schema: bool = False) -> None:
    """Make a PostgreSQL database as it was when new, or drop its ``schema`` with all in it."""
    engine = create_engine(url)
    with engine.begin() as conn:
        if schema:
            conn.exec_driver_sql("DROP SCHEMA public CASCADE")
            conn.exec_driver_sql("CREATE SCHEMA public")
        there = set(inspect(conn).get_table_names())
        for table in reversed(metadata.sorted_tables):
            if table.name in there:
                conn.execute(table.delete())
        if clock_reader.name in there:  # the one row that a migration makes
            conn.execute(clock_reader.insert().values(id=1, place=-1))
    engine.dispose()


def sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'fame.db'}"


async def together(
    store: Store, *jobs: Submission | Callable[[Connection, Ledger], object]
) -> list[object]:
    """Have ``jobs`` written in one transaction: they gather while another one is held up."""
    gate, entered = threading.Event(), threading.Event()

    def hold(_conn: Connection, _ledger: Ledger) -> None:
        entered.set()
        gate.wait(10)

    held_up = asyncio.ensure_future(store.write(hold))
    await asyncio.to_thread(entered.wait, 10)
    waiting = [
        asyncio.ensure_future(
            store.submit(job) if isinstance(job, Submission) else store.write(job)
        )
        for job in jobs
    ]
    await asyncio.sleep(0)
    gate.set()
    await held_up
    return await asyncio.gather(*waiting, return_exceptions=True)

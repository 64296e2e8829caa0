"""Records of consent as rows. Each change is a further row; none is ever changed or deleted.

Functions take a connection and run inside `Store.read` or `Store.write`; none commits.
"""

import json
from collections.abc import Collection, Iterable
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, func, insert, select

from broker.core.capacity import Assessment
from broker.core.consent import Consent
from broker.core.consent_record import consent_entry
from broker.core.identity import AgencyId, SubjectRef
from broker.core.instant import from_millis, millis
from broker.edge.ledger import Ledger
from broker.edge.tables import consent as table

_COLUMNS = tuple(table.c.keys())
_newest = (
    select(table.c.id, func.max(table.c.version).label("version")).group_by(table.c.id).subquery()
)


# All versions of a few rows: cheaper than asking the database for the newest of each. Made once:
# it is asked for nearly every message about a person.
_about = (
    select(table)
    .where(table.c.subject_ref == bindparam("subject"))
    .order_by(table.c.id, table.c.version)
)


def held(conn: Connection, subject: SubjectRef) -> list[Consent]:
    """Return every consent on record about ``subject``, each as it stands now."""
    rows = conn.execute(_about, {"subject": subject})
    newest = {row.id: row for row in rows}
    return [_consent(row) for row in newest.values()]


def load(conn: Connection, consent_id: str) -> Consent | None:
    """Return a record as it stands now, or None."""
    rows = history(conn, consent_id)
    return rows[-1] if rows else None


def history(conn: Connection, consent_id: str) -> list[Consent]:
    """Return every version of a record, the first one first."""
    return _all(conn, select(table).where(table.c.id == consent_id).order_by(table.c.version))


def of_agency(conn: Connection, agency: AgencyId, limit: int, after: str | None) -> list[Consent]:
    """Return what ``agency`` recorded, as it stands now, in the order of its ids."""
    found = _current().where(table.c.recorded_by == agency)
    if after is not None:
        found = found.where(table.c.id > after)
    return _all(conn, found.order_by(table.c.id).limit(limit))


def of_subjects(conn: Connection, subjects: Collection[SubjectRef]) -> list[Consent]:
    """Return what is on record about these people, as it stands now."""
    found = _current().where(table.c.subject_ref.in_(subjects))
    return _all(conn, found.order_by(table.c.subject_ref, table.c.id))


def disputed(conn: Connection, limit: int) -> list[SubjectRef]:
    """Return people about whom there is a consent beside a refusal or a withdrawal."""
    no = table.alias("no")
    newest_no = _newest.alias("newest_no")
    found = (
        select(table.c.subject_ref)
        .join(_newest, and_(_newest.c.id == table.c.id, _newest.c.version == table.c.version))
        .join(no, no.c.subject_ref == table.c.subject_ref)
        .join(newest_no, and_(newest_no.c.id == no.c.id, newest_no.c.version == no.c.version))
        .where(table.c.status == "ACTIVE", no.c.status.in_(("REFUSED", "WITHDRAWN")))
        .distinct()
        .order_by(table.c.subject_ref)
        .limit(limit)
    )
    return [SubjectRef(ref) for ref in conn.execute(found).scalars()]


def add(conn: Connection, ledger: Ledger, consent: Consent, *, peer: str) -> None:
    """Add one version of a record, with its entry in the ledger."""
    place = ledger.append(consent_entry(consent, peer=peer))
    conn.execute(
        insert(table).values(
            id=consent.consent_id,
            version=consent.version,
            subject_ref=consent.subject,
            kind=consent.kind,
            status=consent.status,
            purposes=_list(consent.purposes),
            message_types=_list(consent.message_types),
            recipients=_list(consent.recipients),
            form=consent.form,
            given_at=millis(consent.given_at),
            given_by=consent.given_by,
            capacity=consent.capacity,
            assessment=_assessment_text(consent.assessment),
            wording=consent.wording,
            document=consent.document,
            recorded_by=consent.recorded_by,
            recorded_at=millis(consent.recorded_at),
            review_at=millis(consent.review_at),
            expires_at=None if consent.expires_at is None else millis(consent.expires_at),
            supersedes=consent.supersedes,
            ledger_seq=place.sequence,
            categories=_list(consent.categories) if consent.categories else None,
            support=consent.support,
            withdrawn_by=consent.withdrawn_by,
            withdrawn_at=None if consent.withdrawn_at is None else millis(consent.withdrawn_at),
        )
    )


def _current() -> Select[tuple[object, ...]]:
    newest = and_(_newest.c.id == table.c.id, _newest.c.version == table.c.version)
    return select(table).join(_newest, newest)


def _all(conn: Connection, query: Select[tuple[object, ...]]) -> list[Consent]:
    return [_consent(row) for row in conn.execute(query)]


def _consent(row: Iterable[Any]) -> Consent:
    values = dict(zip(_COLUMNS, row, strict=True))
    del values["ledger_seq"]
    values["consent_id"] = values.pop("id")
    values["subject"] = values.pop("subject_ref")
    for name in ("purposes", "message_types", "recipients"):
        values[name] = _set(values[name])
    values["categories"] = _set(values["categories"] or "[]")
    for name in ("given_at", "recorded_at", "review_at", "expires_at", "withdrawn_at"):
        values[name] = _instant(values[name])
    values["assessment"] = _assessment(values["assessment"])
    return Consent(**values)


def _instant(value: int | None) -> datetime | None:
    return None if value is None else from_millis(value)


@lru_cache(maxsize=4096)  # many records name the same few; they hold nothing of any person
def _set(text: str) -> frozenset[str]:
    return frozenset(json.loads(text))


def _list(values: Iterable[str]) -> str:
    return json.dumps(sorted(values))


def _assessment_text(given: Assessment | None) -> str | None:
    if given is None:
        return None
    return json.dumps(
        {"assessor": given.assessor, "at": millis(given.at), "factors": sorted(given.factors)}
    )


def _assessment(text: str | None) -> Assessment | None:
    if text is None:
        return None
    value = json.loads(text)
    return Assessment(value["assessor"], from_millis(value["at"]), frozenset(value["factors"]))

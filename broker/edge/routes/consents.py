"""Records of consent over HTTP. A person is identified in a body, never in an address."""

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from broker.core.capacity import Assessment
from broker.core.consent_record import Statement
from broker.core.identity import AGENCY_ID, AgencyId
from broker.core.subject import subject_key
from broker.edge import telemetry
from broker.edge.consent_service import ConsentService
from broker.edge.routes.callers import AnyPeer, Operator
from broker.edge.routes.mailbox import After, Limit

_STRICT = ConfigDict(frozen=True, extra="forbid")
Code = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_-]{0,31}$")]
TypeName = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z]{1,63}$")]
Category = Annotated[str, Field(pattern=r"^[a-z][a-z-]{0,31}$")]
Giver = Literal["SUBJECT", "PR_HOLDER", "CARER_NO_PR", "ATTORNEY", "DEPUTY", "NONE"]
Agency = Annotated[str, Field(pattern=f"^{AGENCY_ID.pattern}$")]
Reference = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]{0,63}$")]
Uuid = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
Name = Annotated[str, Field(min_length=1, max_length=100)]


class Person(BaseModel):
    """Whom a record is about: by NHS number, or UPN, or name with date of birth."""

    model_config = _STRICT

    nhs_number: str | None = None
    upn: str | None = None
    family_name: Name | None = None
    given_name: Name | None = None
    birth_date: date | None = None

    def key(self) -> str:
        """Return the canonical text that every agency would arrive at."""
        return subject_key(
            nhs_number=self.nhs_number,
            upn=self.upn,
            family_name=self.family_name,
            given_name=self.given_name,
            birth_date=None if self.birth_date is None else self.birth_date.isoformat(),
        )


class Competence(BaseModel):
    """An assessment of Gillick competence; ``assessor`` is a role."""

    model_config = _STRICT

    assessor: Reference
    at: AwareDatetime
    factors: Annotated[frozenset[Code], Field(max_length=5)]


class NewConsent(BaseModel):
    """What a person said of sharing about them."""

    model_config = _STRICT

    agency: Agency
    subject: Person
    kind: Literal["GDPR_BASIS", "SERVICE_AGREEMENT", "CONFIDENTIALITY", "RETAIN_18_25"]
    status: Literal["ACTIVE", "REFUSED"] = "ACTIVE"
    given_by: Giver
    capacity: Literal[
        "ADULT", "16_17_PRESUMED", "GILLICK_COMPETENT", "GILLICK_NOT_COMPETENT", "MCA_LACKS"
    ]
    assessment: Competence | None = None
    purposes: Annotated[frozenset[Code], Field(max_length=32)]
    message_types: Annotated[frozenset[TypeName], Field(max_length=64)]
    recipients: Annotated[frozenset[Agency], Field(max_length=64)]
    form: Literal["EXPLICIT_WRITTEN", "EXPLICIT_VERBAL", "EXPLICIT_ELECTRONIC", "IMPLIED"]
    wording: Reference
    document: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    given_at: AwareDatetime
    review_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    supersedes: Uuid | None = None
    categories: Annotated[frozenset[Category], Field(max_length=32)] = frozenset()
    support: Code | None = None

    def statement(self) -> Statement:
        """Return it as the core knows it."""
        given = self.assessment
        return Statement(
            kind=self.kind,
            status=self.status,
            purposes=self.purposes,
            message_types=self.message_types,
            recipients=frozenset(AgencyId(name) for name in self.recipients),
            form=self.form,
            given_at=self.given_at,
            given_by=self.given_by,
            capacity=self.capacity,
            wording=self.wording,
            review_at=self.review_at,
            expires_at=self.expires_at,
            assessment=None
            if given is None
            else Assessment(given.assessor, given.at, given.factors),
            document=self.document,
            supersedes=self.supersedes,
            categories=self.categories,
            support=self.support,
        )


class Acting(BaseModel):
    """The agency that acts."""

    model_config = _STRICT

    agency: Agency


class Withdrawal(Acting):
    """Who conveyed that the person withdrew a consent, and when that was said."""

    withdrawn_by: Giver | None = None
    withdrawn_at: AwareDatetime | None = None


class Search(Acting):
    """Whose records of whom."""

    subject: Person


def consent_routes(consents: ConsentService) -> APIRouter:
    """Return the routes below `/consents`."""
    router = APIRouter(tags=["consents"])

    @router.post("/consents", status_code=201, summary="Record a consent or a refusal")
    async def record(given: NewConsent, peer: AnyPeer) -> dict[str, Any]:
        agency = peer.require(given.agency)
        done = await consents.record(agency, given.subject.key(), given.statement(), peer.name)
        telemetry.log(telemetry.CONSENT_RECORDED, agency=agency)
        return dict(done)

    @router.post("/consents/search", summary="What the agency recorded about a person")
    async def search(given: Search, peer: AnyPeer) -> dict[str, Any]:
        agency = peer.require(given.agency)
        return {"consents": await consents.about(agency, given.subject.key())}

    @router.get("/consents", summary="What the agency recorded")
    async def listed(
        agency: str, peer: AnyPeer, limit: Limit = 50, after: After = None
    ) -> dict[str, Any]:
        own = peer.require(agency)
        return {"consents": await consents.listed(own, limit, after)}

    @router.get("/consents/conflicts", summary="The agency's records that others contradict")
    async def contradicted(agency: str, peer: AnyPeer) -> dict[str, Any]:
        return {"conflicts": await consents.conflicts(peer.require(agency))}

    @router.get("/operator/consents/conflicts", summary="Records that contradict, both sides")
    async def conflicting(_operator: Operator) -> dict[str, Any]:
        return {"conflicts": await consents.conflicts(None)}

    @router.get("/consents/{consent_id}", summary="One record with its history")
    async def show(consent_id: str, peer: AnyPeer) -> dict[str, Any]:
        return dict(await consents.show(peer, consent_id))

    @router.post("/consents/{consent_id}/withdrawal", summary="The person withdrew it")
    async def withdraw(consent_id: str, given: Withdrawal, peer: AnyPeer) -> dict[str, Any]:
        agency = peer.require(given.agency)
        by, said_at = given.withdrawn_by, given.withdrawn_at
        done = await consents.withdraw(agency, consent_id, peer.name, by=by, said_at=said_at)
        telemetry.log(telemetry.CONSENT_WITHDRAWN, agency=agency, stopped=done["stopped"])
        return dict(done)

    return router

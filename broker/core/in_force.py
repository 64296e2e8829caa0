"""The register in force: the agreements as they were signed, never as a file now says.

A file of a sharing protocol is a draft until the policy log activates what it says. From then
on what was signed counts: changing the file changes nothing, and is noticed. So a draft that
cannot be used stops nobody: it is left out, and told of.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from broker.core.assembly import SHARING, Files, Keysets, build_register
from broker.core.identity import AgencyId
from broker.core.policy_log import Act, Content, digest_of_agreement, read_log
from broker.core.protocol import Register
from broker.core.sharing import LOCAL_TIER, PURPOSE_TIER
from broker.core.table import Mistake, london_midnight
from broker.core.two_keys import SIGNED, Policy, Ruling, parties_of, policy_of
from broker.core.widening import grants_of, widenings


@dataclass(frozen=True, slots=True)
class Sources:
    """What was read from disk: see `broker.core.assembly`; ``agreements`` by digest.

    ``unreadable`` are files of sharing protocols that are no TOML, with what is wrong.
    """

    files: Files
    blobs: Mapping[str, bytes]
    keysets: Keysets
    agreements: Mapping[str, Content]
    log: str = ""
    unreadable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InForce:
    """A register with the policy it follows. ``changed`` are files that say something else.

    ``unusable`` are files of sharing protocols that were left out, with what is wrong.
    """

    register: Register
    policy: Policy
    changed: tuple[str, ...]
    unusable: Mapping[str, str] = field(default_factory=dict)


def in_force(sources: Sources, until: datetime | None = None) -> InForce:
    """Return the register that the policy log has put in force, or had at ``until``.

    Raises:
        Mistake: the log, a signed agreement or any file but that of a draft cannot be used.
    """
    for digest, content in sources.agreements.items():
        if digest_of_agreement(content) != digest:
            cure = "this is not what was signed: put back the copy of another party"
            raise Mistake(f"{SIGNED}/{digest}.toml", "", "", cure)
    acts = [act for act in read_log(sources.log) if until is None or act.at <= until]

    def needed(rulings: Mapping[str, Ruling], new: Ruling) -> frozenset[AgencyId]:
        return _needed(sources, rulings, new)

    policy = policy_of(acts, sources.agreements, needed)
    register, left_out = _built(sources, _agreed(sources, policy.rulings, policy.everybody))
    unusable = {**sources.unreadable, **left_out}
    return InForce(register, policy, _changed(sources.files, policy), unusable)


def _built(
    sources: Sources, agreed: Mapping[str, dict[str, object]]
) -> tuple[Register, dict[str, str]]:
    """Return the register of ``agreed`` and of the drafts beside it, but those left out."""
    drafts = {
        name: table
        for name, table in _drafts(sources.files).items()
        if _is_sharing(name) and name not in agreed
    }
    rest = {name: table for name, table in sources.files.items() if not _is_sharing(name)}
    unusable: dict[str, str] = {}
    while True:
        try:
            files = {**rest, **drafts, **agreed}
            return build_register(files, sources.blobs, sources.keysets), unusable
        except Mistake as mistake:
            if mistake.file not in drafts:
                raise
            del drafts[mistake.file]
            unusable[mistake.file] = str(mistake.detail)


def as_if_in_force(files: Files, file: str) -> Files:
    """Return ``files`` with one agreement begun on its first day, whoever signed it."""
    table = files[file]
    first = table.get("effective_from")
    supposed = {"activated_at": london_midnight(first)} if isinstance(first, date) else {}
    return {**files, file: {**table, "status": "ACTIVE", **supposed}}


def file_of(ruling: Ruling) -> str:
    """Return the file in which a version of a sharing protocol stands."""
    return f"{SHARING}/{ruling.protocol_id}.v{ruling.version}.toml"


def _needed(sources: Sources, rulings: Mapping[str, Ruling], new: Ruling) -> frozenset[AgencyId]:
    """Return who has to sign: whoever's sharing ``new`` widens, and for a first version all."""
    content = sources.agreements[new.digest]
    parties = parties_of(content)
    signed = {act.party for act in new.signed}
    amends = any(one.protocol_id == new.protocol_id for one in rulings.values())
    tier = content.get("tier")
    if parties <= signed or not (tier == LOCAL_TIER or (tier == PURPOSE_TIER and amends)):
        return parties
    asked = "" if tier == LOCAL_TIER else new.protocol_id  # a local flow is held to its parent
    found = widenings(
        grants_of(_compiled(sources, rulings), asked),
        grants_of(_compiled(sources, {**rulings, new.reference: new}), asked),
    )
    return frozenset(name for one in found for name in (one.key.sender, one.key.recipient))


def _compiled(sources: Sources, rulings: Mapping[str, Ruling]) -> Register:
    rest = {name: table for name, table in sources.files.items() if not _is_sharing(name)}
    files = {**rest, **_agreed(sources, rulings, {})}
    return build_register(files, sources.blobs, sources.keysets)


def _drafts(files: Files) -> Files:
    """Return the files, each sharing protocol as a draft whatever it says of itself."""
    return {
        name: {**table, "status": "DRAFT"} if _is_sharing(name) else table
        for name, table in files.items()
    }


def _is_sharing(name: str) -> bool:
    return name.startswith(f"{SHARING}/")


def _agreed(
    sources: Sources, rulings: Mapping[str, Ruling], everybody: Mapping[str, Act]
) -> dict[str, dict[str, object]]:
    return {
        file_of(ruling): {
            **sources.agreements[ruling.digest],
            "status": ruling.status,
            "activated_at": ruling.activated_at,
            "signatory": [_signatory(act, everybody) for act in ruling.signed],
        }
        for ruling in rulings.values()
    }


def _signatory(act: Act, everybody: Mapping[str, Act]) -> dict[str, object]:
    detail = everybody[act.person].detail if act.person in everybody else {}
    return {
        "party": act.party,
        "name": detail.get("name", "-"),
        "position": detail.get("position", "-"),
        "signed_on": act.at.astimezone(UTC).date(),
        "signature_ref": f"policy log, line {act.number}",
    }


def _changed(files: Files, policy: Policy) -> tuple[str, ...]:
    return tuple(
        file_of(ruling)
        for ruling in policy.rulings.values()
        if file_of(ruling) in files and digest_of_agreement(files[file_of(ruling)]) != ruling.digest
    )

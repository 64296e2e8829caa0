"""Make a register of the files of protocols/, already read: the only way to make one.

``files`` are the tables of every TOML file by its path below protocols/, ``blobs`` the bytes
of the certificates, ``keysets`` the JSON Web Key Sets of the OAuth clients' public keys.
"""

from collections.abc import Mapping
from hashlib import sha256

import orjson
from cryptography.exceptions import UnsupportedAlgorithm

from broker.core.agency import (
    Agency,
    AgencyFlags,
    Contact,
    DeliveryRoute,
    EncryptionKey,
    RegisteredKey,
    System,
    encryption_key,
    registered_key,
)
from broker.core.clocks import parse_clocks
from broker.core.gateway import Gateway, parse_gateway
from broker.core.identity import AGENCY_ID, AgencyId
from broker.core.protocol import Purpose, Register, compile_register
from broker.core.sharing import SharingProtocol, Vocabulary, parse_protocol
from broker.core.table import Mistake, Table
from broker.core.workdays import UNKNOWN, parse_calendar

GATEWAYS = "gateways.toml"
PURPOSES = "purposes.toml"
LISTS = "code-lists.toml"
CLOCKS = "clocks.toml"
HOLIDAYS = "bank-holidays.toml"
AGENCIES = "agencies"
SHARING = "sharing"
STATES = frozenset({"active", "suspended", "left"})
ADAPTERS = frozenset({"mailbox", "webhook", "file_drop"})

Files = Mapping[str, Mapping[str, object]]
Keysets = Mapping[str, Mapping[str, object]]


def build_register(files: Files, blobs: Mapping[str, bytes], keysets: Keysets) -> Register:
    """Return the register that ``files`` describe.

    Raises:
        Mistake: a file is missing, not complete, or says something that is not known.
    """
    lists = _lists(_file(files, LISTS))
    purposes = _purposes(_file(files, PURPOSES))
    agencies = _agencies(files, blobs, keysets, lists)
    gateways = _gateways(_file(files, GATEWAYS), frozenset(purposes), lists)
    types = {name: agency.type for name, agency in agencies.items()}
    clocks = parse_clocks(_file(files, CLOCKS)) if CLOCKS in files else {}
    vocabulary = Vocabulary(types, gateways, frozenset(purposes), lists, clocks)
    return compile_register(
        agencies=agencies,
        gateways=gateways,
        purposes=purposes,
        lists=lists,
        protocols=_protocols(files, vocabulary),
        digest=digest_of(files, blobs),
        calendar=parse_calendar(_file(files, HOLIDAYS)) if HOLIDAYS in files else UNKNOWN,
        clock_rules=clocks,
    )


def digest_of(files: Files, blobs: Mapping[str, bytes]) -> str:
    """Return the SHA-256, in hex, of what the files say: comments and order do not count."""
    content = {
        "files": files,
        "certificates": {name: sha256(blob).hexdigest() for name, blob in blobs.items()},
    }
    return sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def certificate_files(table: Mapping[str, object]) -> tuple[list[str], list[str]]:
    """Return the files that an agency's table names: certificates and such, and client keys."""
    agency = Table(table, "")
    certificates = [
        item.text("file")
        for kind in ("certificate", "encryption")
        for item in agency.tables(kind, optional=True)
    ]
    keys: list[str] = []
    for system in agency.tables("system", optional=True):
        certificates.extend(system.texts("tls_certificates", ()))
        keys.extend(system.texts("client_keys", ()))
    return certificates, keys


def _file(files: Files, name: str) -> Table:
    if name not in files:
        raise Mistake(name, "", "", "this file is missing")
    return Table(files[name], name)


def _below(files: Files, folder: str) -> list[Table]:
    return [Table(files[name], name) for name in sorted(files) if name.startswith(f"{folder}/")]


def _lists(table: Table) -> dict[str, frozenset[str]]:
    lists = {}
    for item in table.tables("list"):
        item.text("list_version")
        item.text("source")
        lists[item.text("name")] = frozenset(item.texts("values"))
        item.close()
    table.close()
    for name in ("AgencyType", "DataCategory", "SubjectCategory"):
        if name not in lists:
            raise table.mistake("list", f"the list {name} is missing")
    return lists


def _purposes(table: Table) -> dict[str, Purpose]:
    purposes = {}
    for item in table.tables("purpose"):
        purpose = Purpose(
            code=item.text("code"),
            title=item.text("title"),
            description=item.text("description"),
            child=item.flag("child"),
        )
        item.close()
        purposes[purpose.code] = purpose
    table.close()
    return purposes


def _gateways(
    table: Table, purposes: frozenset[str], lists: Mapping[str, frozenset[str]]
) -> dict[str, Gateway]:
    gateways = {}
    for item in table.tables("gateway"):
        gateway = parse_gateway(
            item,
            purposes=purposes,
            types=lists["AgencyType"],
            categories=lists["DataCategory"],
        )
        if gateway.gateway_id in gateways:
            raise item.mistake("id", f"{gateway.gateway_id} stands here twice")
        gateways[gateway.gateway_id] = gateway
    table.close()
    return gateways


def _protocols(files: Files, vocabulary: Vocabulary) -> list[SharingProtocol]:
    protocols = []
    for table in _below(files, SHARING):
        protocol = parse_protocol(table, vocabulary)
        expected = f"{SHARING}/{protocol.protocol_id}.v{protocol.version}.toml"
        if table.file != expected:
            raise table.mistake("id", f"id and version belong to a file named {expected}")
        protocols.append(protocol)
    return protocols


def _agencies(
    files: Files,
    blobs: Mapping[str, bytes],
    keysets: Keysets,
    lists: Mapping[str, frozenset[str]],
) -> dict[AgencyId, Agency]:
    agencies = {}
    for table in _below(files, AGENCIES):
        agency = _agency(table, blobs, keysets, lists)
        agencies[agency.agency_id] = agency
    for name, agency in agencies.items():
        principal = agency.flags.acting_for
        if principal is not None and principal not in agencies:
            file = f"{AGENCIES}/{name}.toml"
            raise Mistake(file, "flags", "acting_for", f"{principal} is not an agency here")
    return agencies


def _agency(
    table: Table,
    blobs: Mapping[str, bytes],
    keysets: Keysets,
    lists: Mapping[str, frozenset[str]],
) -> Agency:
    name = table.text("id")
    if not AGENCY_ID.fullmatch(name) or table.file != f"{AGENCIES}/{name}.toml":
        raise table.mistake("id", "an id of a-z, 0-9 and -, which is also the name of the file")
    agency = Agency(
        agency_id=AgencyId(name),
        name=table.text("name"),
        type=table.choice("type", lists["AgencyType"]),
        areas=table.texts("areas", ()),
        status=table.choice("status", STATES, "active"),
        flags=_flags(table.table("flags", optional=True)),
        keys=tuple(_key(item, blobs) for item in table.tables("certificate", optional=True)),
        encryption=tuple(
            _encryption(item, blobs) for item in table.tables("encryption", optional=True)
        ),
        systems=tuple(_system(item, blobs, keysets) for item in table.tables("system")),
        delivery=_delivery(table.table("delivery", optional=True)),
        contacts=tuple(_contact(item) for item in table.tables("contact")),
        capabilities=frozenset(table.choices("capabilities", lists["Capability"], ())),
        ico_registration=table.text("ico_registration", ""),
    )
    table.close()
    return agency


def _flags(table: Table) -> AgencyFlags:
    acting_for = table.text("acting_for", "")
    flags = AgencyFlags(
        relevant_authority_115=table.flag("relevant_authority_115", default=False),
        listed_16LA=table.choice("listed_16LA", {"A", "B", "C"}, ""),
        pcsc_specified=table.flag("pcsc_specified", default=False),
        health_or_social_care=table.flag("health_or_social_care", default=False),
        competent_authority_le=table.flag("competent_authority_le", default=False),
        acting_for=AgencyId(acting_for) if acting_for else None,
    )
    table.close()
    return flags


def _key(table: Table, blobs: Mapping[str, bytes]) -> RegisteredKey:
    file = table.text("file")
    instants = {
        name: table.instant(name) if table.has(name) else None
        for name in ("valid_from", "valid_until", "revoked_at")
    }
    table.close()
    try:
        return registered_key(blobs[file], **instants)
    except (KeyError, ValueError) as error:
        raise table.mistake("file", f"{file} is not a certificate in PEM that is there") from error


def _encryption(table: Table, blobs: Mapping[str, bytes]) -> EncryptionKey:
    file = table.text("file")
    instants = {
        name: table.instant(name) if table.has(name) else None
        for name in ("valid_from", "valid_until")
    }
    table.close()
    try:
        return encryption_key(blobs[file], **instants)
    except (KeyError, ValueError, UnsupportedAlgorithm) as error:
        cure = f"{file} is not a public key on P-256, P-384, P-521 or X25519 in PEM that is there"
        raise table.mistake("file", cure) from error


def _system(table: Table, blobs: Mapping[str, bytes], keysets: Keysets) -> System:
    fingerprints = set()
    for file in table.texts("tls_certificates", ()):
        try:
            fingerprints.add(registered_key(blobs[file]).fingerprint)
        except (KeyError, ValueError) as error:
            cure = f"{file} is not a certificate in PEM that is there"
            raise table.mistake("tls_certificates", cure) from error
    keys: list[object] = []
    for file in table.texts("client_keys", ()):
        if file not in keysets:
            raise table.mistake("client_keys", f"{file} is not a public key in PEM that is there")
        keys.append(keysets[file])
    client_id = table.text("client_id", "")
    system = System(
        system_id=table.text("system_id"),
        tls_fingerprints=frozenset(fingerprints),
        client_id=client_id or None,
        jwks={"keys": keys} if keys else None,
    )
    table.close()
    return system


def _delivery(table: Table) -> DeliveryRoute:
    settings: dict[str, str | int] = {}
    for key, value in table.table("settings", optional=True).content.items():
        if not isinstance(value, str | int):
            raise table.mistake("settings", f"{key} is a text or a whole number")
        settings[key] = value
    route = DeliveryRoute(table.choice("adapter", ADAPTERS, "mailbox"), settings)
    table.close()
    return route


def _contact(table: Table) -> Contact:
    contact = Contact(
        role=table.text("role"),
        name=table.text("name"),
        email=table.text("email", ""),
        telephone=table.text("telephone", ""),
        hours=table.text("hours", ""),
    )
    table.close()
    return contact

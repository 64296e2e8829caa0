"""`fame protocol sign`, `activate`, `suspend`, ...: what a designated person does to an agreement.

Each act is signed with the person's own key and added to the policy log. The operator of the
broker has no such key, and can put nothing in force and out of force.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from cryptography import x509

from broker.cli.failure import EXIT_USAGE, Failure
from broker.cli.home import AgencyOption, Config, agency_folder, load_config, now, read_input
from broker.cli.protocol.common import Reference, find
from broker.cli.protocol.trying import require_sound

if TYPE_CHECKING:
    from broker.core.in_force import InForce
    from broker.core.policy_log import Act, PrivateKey

Key = Annotated[
    Path | None,
    typer.Option("--key", help="Private key of the designated person; else the sandbox's."),
]
Certificate = Annotated[
    Path | None,
    typer.Option("--certificate", help="Certificate of that key; else the sandbox's."),
]
Why = Annotated[str, typer.Option("--why", help="Cause, from a closed list.")]


def designate(
    agency: AgencyOption,
    name: Annotated[str, typer.Option(help="Name of the person.")],
    position: Annotated[str, typer.Option(help="Position of the person.")],
    key: Key = None,
    certificate: Certificate = None,
    by: Annotated[
        Path | None, typer.Option(help="Key of one designated before; not for the first.")
    ] = None,
    by_certificate: Annotated[Path | None, typer.Option(help="Certificate of that key.")] = None,
    agency_key: Annotated[
        Path | None,
        typer.Option(help="For the first: the key of the agency's messages; else the sandbox's."),
    ] = None,
    agency_certificate: Annotated[
        Path | None, typer.Option(help="Certificate of that key, as it is registered.")
    ] = None,
    config: Config = None,
) -> None:
    """Name who signs for an agency: later ones by one before.

    The first by their own key and by the agency's, the one that signs its messages.
    """
    from broker.core.designation import confirmed
    from broker.core.policy_log import designation, import_key

    new_key, person = _person(agency, key, certificate, config)
    detail = designation(person, name, position)
    if by is not None and by_certificate is not None:
        act = unsigned_act("designate", agency, _certificate(by_certificate), detail=detail)
        _append(act, import_key(read_input(by)), config)
        return
    act = unsigned_act("designate", agency, person, detail=detail)
    agencys = _person(agency, agency_key, agency_certificate, config, kept="signing")
    _append(confirmed(act, *agencys), new_key, config)


def withdraw(
    agency: AgencyOption,
    person: Annotated[str, typer.Argument(help="SHA-256 of the certificate, from the log.")],
    key: Key = None,
    certificate: Certificate = None,
    config: Config = None,
) -> None:
    """End a person's power to sign for an agency; what they signed before stays signed."""
    own, signer = _person(agency, key, certificate, config)
    _append(unsigned_act("withdraw", agency, signer, detail={"person": person}), own, config)


def sign(
    reference: Reference,
    agency: AgencyOption,
    key: Key = None,
    certificate: Certificate = None,
    config: Config = None,
) -> None:
    """Sign what the file of a sharing protocol says now, for one of its parties."""
    from broker.edge.policy_files import keep_agreement
    from broker.edge.registers import load_register, read_sources

    directory = _directory(config)
    protocol = find(load_register(directory), reference)
    own, person = _person(agency, key, certificate, config)
    digest = keep_agreement(directory, protocol.file, read_sources(directory))
    act = unsigned_act("sign", agency, person, protocol.reference, digest)
    after = _append(act, own, config)
    signers = after.policy.signers(digest)
    missing = [str(one.agency) for one in protocol.parties if one.agency not in signers]
    print(f"not yet signed by: {', '.join(missing) or 'nobody; it can be activated'}")


def activate(
    reference: Reference,
    agency: AgencyOption,
    key: Key = None,
    certificate: Certificate = None,
    config: Config = None,
) -> None:
    """Put in force what was signed: by all whose sharing it widens, for a first version by all.

    Refused while lint finds an error, an example fails, or the examples touch too little.
    """
    from broker.edge.policy_files import keep_agreement
    from broker.edge.registers import load_register, read_sources

    directory = _directory(config)
    protocol = find(load_register(directory), reference)
    require_sound(protocol, directory, config)
    own, person = _person(agency, key, certificate, config)
    digest = keep_agreement(directory, protocol.file, read_sources(directory))
    act = unsigned_act("activate", agency, person, protocol.reference, digest)
    after = _append(act, own, config)
    if protocol.reference not in after.policy.rulings:
        print("lines of the log were lost, so the others whose sharing it widens activate it too")


def suspend(
    reference: Reference,
    agency: AgencyOption,
    why: Why = "review",
    key: Key = None,
    certificate: Certificate = None,
    config: Config = None,
) -> None:
    """Stop a sharing protocol at once; one party is enough."""
    _change("suspend", reference, agency, why, key, certificate, config)


def resume(
    reference: Reference,
    agency: AgencyOption,
    key: Key = None,
    certificate: Certificate = None,
    config: Config = None,
) -> None:
    """Let a suspended sharing protocol go on; every party has to."""
    _change("resume", reference, agency, "", key, certificate, config)


def terminate(
    reference: Reference,
    agency: AgencyOption,
    why: Why = "notice",
    key: Key = None,
    certificate: Certificate = None,
    config: Config = None,
) -> None:
    """End a sharing protocol for good; one party is enough."""
    _change("terminate", reference, agency, why, key, certificate, config)


def _change(
    what: str,
    reference: str,
    agency: str,
    why: str,
    key: Path | None,
    certificate: Path | None,
    config: Path | None,
) -> None:
    from broker.core.policy_log import CAUSES
    from broker.edge.registers import load_in_force

    if why and why not in CAUSES:
        raise Failure(f"{why!r} is no cause", EXIT_USAGE, {"try": f"one of {', '.join(CAUSES)}"})
    held = load_in_force(_directory(config))
    protocol = find(held.register, reference)
    ruling = held.policy.rulings.get(protocol.reference)
    if ruling is None:
        raise Failure(f"{protocol.reference} was never activated", EXIT_USAGE)
    own, person = _person(agency, key, certificate, config)
    detail = {"cause": why} if why else {}
    act = unsigned_act(what, agency, person, ruling.reference, ruling.digest, detail)
    after = _append(act, own, config)
    print(f"{ruling.reference} is {after.policy.rulings[ruling.reference].status.lower()}")


def _directory(config: Path | None) -> Path:
    return load_config(config).config.registers.protocols_dir


def _person(
    agency: str,
    key: Path | None,
    certificate: Path | None,
    config: Path | None,
    kept: str = "designated",
) -> "tuple[PrivateKey, x509.Certificate]":
    """Return the key and the certificate of who acts; in a sandbox, from the agency's folder."""
    from broker.core.policy_log import import_key

    if key is None or certificate is None:
        folder = agency_folder(config, agency)
        key = key or folder / f"{kept}.key.pem"
        certificate = certificate or folder / f"{kept}.cert.pem"
    try:
        return import_key(read_input(key)), _certificate(certificate)
    except ValueError as error:
        rows = {"where": str(key), "try": "name key and certificate in PEM"}
        raise Failure("That key cannot sign", EXIT_USAGE, rows) from error


def _certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(read_input(path))


def unsigned_act(
    what: str,
    agency: str,
    certificate: x509.Certificate,
    protocol: str = "",
    digest: str = "",
    detail: dict[str, str] | None = None,
) -> "Act":
    """Return what is done now, to be numbered and signed as it is added to the log."""
    from broker.core.identity import AgencyId
    from broker.core.policy_log import Act, fingerprint

    return Act(
        number=0,
        previous="",
        at=now().replace(microsecond=0),
        act=what,
        party=AgencyId(agency),
        person=fingerprint(certificate),
        protocol=protocol,
        digest=digest,
        detail=detail or {},
    )


def _append(act: "Act", key: "PrivateKey", config: Path | None) -> "InForce":
    from broker.edge.policy_files import append

    done, after = append(_directory(config), act, key)
    about = f" {done.protocol} ({done.digest[:16]})" if done.protocol else ""
    print(f"line {done.number}: {done.act}{about} for {done.party}")
    return after

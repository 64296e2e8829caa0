"""`fame topics`: compare a Kafka cluster with topics.toml, and make it so."""

import os
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.failure import EXIT_CHECK, EXIT_USAGE, Failure
from broker.cli.home import DryRun, Json, print_json
from broker.core.asyncapi import asyncapi as describe
from broker.core.errors import BrokerError
from broker.core.topics import Plan, Topics, parse_topics
from broker.core.topics import plan as compare

if TYPE_CHECKING:
    from broker.edge.kafka_admin import ClusterAdmin

app = typer.Typer(rich_markup_mode=None)

PASSWORD_BYTES = 24

File = Annotated[Path, typer.Option("--file", "-f", help="The topics, as data.", show_default=True)]
Bootstrap = Annotated[
    str, typer.Option(help="host:port of several nodes, with commas.", metavar="HOST:PORT,...")
]
CaFile = Annotated[Path, typer.Option(help="Authority of the cluster's certificates, PEM.")]
User = Annotated[str, typer.Option(help="Who administers the cluster, by SCRAM-SHA-512.")]
PasswordFile = Annotated[Path | None, typer.Option(help="File with the password of --user.")]
CertFile = Annotated[Path | None, typer.Option(help="Client certificate instead of --user.")]
KeyFile = Annotated[Path | None, typer.Option(help="Its private key.")]
Passwords = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Give each principal without a password the one in DIR/PRINCIPAL.password, "
        "made when it is not there.",
    ),
]
DEFAULT_FILE = Path("deploy/kafka/topics.toml")
DEFAULT_CA = Path("kafka-ca.pem")


@app.command("plan")
def plan_command(
    bootstrap: Bootstrap,
    file: File = DEFAULT_FILE,
    ca_file: CaFile = DEFAULT_CA,
    user: User = "admin",
    password_file: PasswordFile = None,
    cert_file: CertFile = None,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Say what a cluster lacks of the topics, and what it has too much."""
    topics = _read(file)
    admin = _admin(bootstrap, ca_file, user, password_file, cert_file, key_file)
    _show(compare(topics, admin.look(topics.prefix)), as_json=as_json)


@app.command()
def check(
    bootstrap: Bootstrap,
    file: File = DEFAULT_FILE,
    ca_file: CaFile = DEFAULT_CA,
    user: User = "admin",
    password_file: PasswordFile = None,
    cert_file: CertFile = None,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Fail when a cluster is not as the file says."""
    topics = _read(file)
    admin = _admin(bootstrap, ca_file, user, password_file, cert_file, key_file)
    found = compare(topics, admin.look(topics.prefix))
    _show(found, as_json=as_json)
    if not found.empty:
        raise Failure(
            "The cluster is not as the file says", EXIT_CHECK, {"try": "fame topics apply"}
        )


@app.command()
def apply(
    bootstrap: Bootstrap,
    file: File = DEFAULT_FILE,
    ca_file: CaFile = DEFAULT_CA,
    user: User = "admin",
    password_file: PasswordFile = None,
    cert_file: CertFile = None,
    key_file: KeyFile = None,
    passwords: Passwords = None,
    dry_run: DryRun = False,
) -> None:
    """Make a cluster as the file says. Done twice, it does nothing the second time."""
    topics = _read(file)
    admin = _admin(bootstrap, ca_file, user, password_file, cert_file, key_file)
    todo = compare(topics, admin.look(topics.prefix))
    lacking = sorted(set(topics.principals) - admin.users()) if passwords else []
    _show(todo, as_json=False)
    for principal in lacking:
        print(f"password  {principal}")
    if dry_run:
        print("Nothing was done.")
        return
    admin.apply(todo)
    if passwords and lacking:
        admin.set_passwords({name: _password(passwords, name) for name in lacking})
    if todo.blocked:
        raise Failure(
            "Something is left that only you can do", EXIT_CHECK, {"each": "\n".join(todo.blocked)}
        )


@app.command()
def asyncapi(
    file: File = DEFAULT_FILE,
    bootstrap: Annotated[str, typer.Option(help="Node to name.")] = "kafka.example:9094",
) -> None:
    """Print the AsyncAPI 3 document of the topics."""
    from broker import __version__
    from broker.config import data_dir
    from broker.core.catalogue import parse_catalogue

    catalogue = parse_catalogue((data_dir("schemas") / "catalogue.toml").read_text("utf-8"))
    entries = catalogue.messages.values()
    print_json(describe(_read(file), entries, version=__version__, bootstrap=bootstrap))


def _read(file: Path) -> Topics:
    try:
        return parse_topics(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        rows = {"where": str(file), "why": why or ""}
        raise Failure("The topics cannot be read", EXIT_USAGE, rows) from error
    except BrokerError as error:
        rows = {"where": str(file), "why": error.detail}
        raise Failure("The topics cannot be used", EXIT_USAGE, rows) from error


def _admin(
    bootstrap: str,
    ca_file: Path,
    user: str,
    password_file: Path | None,
    cert_file: Path | None,
    key_file: Path | None,
) -> "ClusterAdmin":
    try:
        from broker.edge.kafka_admin import ClusterAdmin
        from broker.edge.kafka_client import KafkaSettings, MutualTls, Scram
    except ImportError as error:
        rows = {"try": "pip install 'fame-broker[kafka,kafka-admin]'"}
        raise Failure("The Kafka libraries are not installed", EXIT_USAGE, rows) from error
    identity: Scram | MutualTls
    if cert_file is not None and key_file is not None:
        identity = MutualTls(cert_file, key_file)
    elif password_file is not None:
        identity = Scram(user, _secret(password_file))
    else:
        rows = {"try": "--password-file FILE, or --cert-file FILE --key-file FILE"}
        raise Failure("Who administers the cluster is not said", EXIT_USAGE, rows)
    return ClusterAdmin(KafkaSettings(bootstrap, ca_file, identity))


def _secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        rows = {"where": str(path), "why": error.strerror or ""}
        raise Failure("The password cannot be read", EXIT_USAGE, rows) from error


def _password(folder: Path, principal: str) -> str:
    """Return the password of ``principal``, made and written for its owner's eyes if need be."""
    path = folder / f"{principal}.password"
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(PASSWORD_BYTES) + "\n")
    return _secret(path)


def _show(found: Plan, *, as_json: bool) -> None:
    if as_json:
        print_json(_plain(found))
        return
    for topic in found.create:
        print(f"create    {topic.name}: {topic.partitions} partitions, {topic.replication} copies")
    for topic in found.grow:
        print(f"grow      {topic.name} to {topic.partitions} partitions")
    for topic in found.configure:
        print(f"configure {topic.name}")
    for word, rules in (("allow", found.allow), ("forbid", found.forbid)):
        for acl in rules:
            print(f"{word:9} {acl.principal} to {acl.operation} {acl.resource} {acl.name}")
    for words in found.blocked:
        print(f"by hand   {words}")
    if found.empty:
        print("The cluster is as the file says.")


def _plain(found: Plan) -> dict[str, Any]:
    return {
        "create": [topic.name for topic in found.create],
        "grow": [topic.name for topic in found.grow],
        "configure": [topic.name for topic in found.configure],
        "allow": [asdict(acl) for acl in found.allow],
        "forbid": [asdict(acl) for acl in found.forbid],
        "blocked": list(found.blocked),
    }

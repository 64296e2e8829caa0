"""What must hold for the broker to take messages. All of it is cheap."""

import shutil
from pathlib import Path
from typing import Protocol

from sqlalchemy import text

from broker.core.errors import Permanent, Transient
from broker.core.reasons import Reason
from broker.edge.database import kind_of
from broker.edge.registers import RegisterHolder
from broker.edge.routes.system import Check
from broker.edge.store import Store


def checks(
    store: Store, registers: RegisterHolder, url: str, free_bytes_min: int
) -> dict[str, Check]:
    """Return the checks of a broker with this ``store`` at ``url``.

    A database server watches its own disk, and says so when it is full.
    """

    async def database() -> None:
        if store.lost is not None:
            raise store.lost
        await store.read(lambda conn: conn.execute(text("SELECT 1")).scalar())

    async def policy() -> None:
        _ = registers.deciding

    async def disk() -> None:
        file = Path(url.removeprefix("sqlite:///"))
        if shutil.disk_usage(file.parent).free < free_bytes_min:
            raise Transient(Reason.STORE_FULL)

    if kind_of(url) == "sqlite":
        return {"database": database, "policy": policy, "disk": disk}
    return {"database": database, "policy": policy}


class Cluster(Protocol):
    """What takes deliveries away, if anything does."""

    reachable: bool


class Log(Protocol):
    """Where the process writes what happens."""

    failing: bool


def log_note(lines: Log | None) -> dict[str, Check]:
    """Return whether log lines can be written: nothing rests on them, and somebody should know."""

    async def log() -> None:
        if lines is not None and lines.failing:
            raise Transient(Reason.INTERNAL)

    return {"log": log}


def notes(
    registers: RegisterHolder, cluster: Cluster | None, lines: Log | None
) -> dict[str, Check]:
    """Return what is worth knowing though messages are taken without it."""

    async def drafts() -> None:
        if registers.unusable:
            raise Permanent(Reason.REGISTER_UNAVAILABLE)

    async def kafka() -> None:
        if cluster is not None and not cluster.reachable:
            raise Transient(Reason.TRANSPORT_UNAVAILABLE)

    found: dict[str, Check] = {"drafts": drafts} | log_note(lines)
    return found if cluster is None else found | {"kafka": kafka}

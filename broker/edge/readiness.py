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


def checks(store: Store, url: str, free_bytes_min: int) -> dict[str, Check]:
    """Return the checks of a broker with this ``store`` at ``url``.

    A database server watches its own disk, and says so when it is full.
    """

    async def database() -> None:
        if store.lost is not None:
            raise store.lost
        await store.read(lambda conn: conn.execute(text("SELECT 1")).scalar())

    async def disk() -> None:
        file = Path(url.removeprefix("sqlite:///"))
        if shutil.disk_usage(file.parent).free < free_bytes_min:
            raise Transient(Reason.STORE_FULL)

    if kind_of(url) == "sqlite":
        return {"database": database, "disk": disk}
    return {"database": database}


class Cluster(Protocol):
    """What takes deliveries away, if anything does."""

    reachable: bool


def notes(registers: RegisterHolder, cluster: Cluster | None) -> dict[str, Check]:
    """Return what is worth knowing though messages are taken without it."""

    async def drafts() -> None:
        if registers.unusable:
            raise Permanent(Reason.REGISTER_UNAVAILABLE)

    async def kafka() -> None:
        if cluster is not None and not cluster.reachable:
            raise Transient(Reason.TRANSPORT_UNAVAILABLE)

    return {"drafts": drafts} if cluster is None else {"drafts": drafts, "kafka": kafka}

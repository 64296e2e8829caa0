"""The broker with one of its safeguards taken away, as a program of its own.

    python -m tests.live.mutants MUTANT serve --config FILE
    python -m tests.live.mutants MUTANT deliver --agency AGENCY --config FILE
    python -m tests.live.mutants MUTANT store DATABASE PREFIX COUNT TOGETHER

What the harness cannot tell from the broker as it is, it does not test. The switches are
here and not in the product: a safeguard that can be switched off is none.
"""

import asyncio
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import NullPool, create_engine, text

from adapters.contract import Delivered, Result
from broker.cli import main as broker_main
from broker.core.agency import Agency
from broker.edge import attempts, database_sqlite
from broker.edge.accepting import Acceptance
from broker.edge.attempts import Attempts
from broker.edge.crash import crash_point
from broker.edge.deliveries import Held
from broker.edge.disclosure import Discloser, Ready
from broker.edge.kafka_consumer import Arrived, KafkaConsumer
from tests.live import store_child


def unsynced() -> None:
    """A commit is acknowledged before the disk has it."""
    full, off = "synchronous = FULL", "synchronous = OFF"
    pragmas = database_sqlite._PRAGMAS
    assert full in pragmas
    loose = tuple(off if pragma == full else pragma for pragma in pragmas)
    database_sqlite._PRAGMAS = loose  # type: ignore[assignment]


def forgetful() -> None:
    """What was accepted before is not looked up; see `without_constraint` for the rest."""

    def nothing(_self: Acceptance, _conn: object, _ids: Sequence[object]) -> dict[Any, Any]:
        return {}

    Acceptance._held = nothing  # type: ignore[method-assign, assignment]


def premature() -> None:
    """The offset of a record is committed before what became of it is recorded."""
    take = KafkaConsumer.take

    async def take_and_commit(self: KafkaConsumer) -> Arrived:
        arrived = await take(self)
        self.settle(arrived)
        await self.flush()
        return arrived

    KafkaConsumer.take = take_and_commit  # type: ignore[method-assign]


def trusting() -> None:
    """What was permitted at acceptance is handed over without asking again."""

    async def prepare(self: Discloser, held: Held) -> Ready:
        assert held.wrapped_key is not None
        key = self.keys.ring.unwrap(held.kek_id, held.wrapped_key)
        assert held.original is not None
        if held.shown is None:
            body = key.open(held.original, held.submission_id)
        else:
            body = key.open(held.shown, held.submission_id, held.delivery_id)
        return Ready(body, held.reduced, held.register_digest, "as accepted")

    Discloser.prepare = prepare  # type: ignore[method-assign]


def hasty() -> None:
    """A delivery is recorded as done before it is handed over, and can die in between (K17)."""
    hand_over = Attempts._hand_over

    def elsewhere(name: str) -> None:
        if name != "K17":  # where it truly stands, nothing is lost any more
            crash_point(name)

    attempts.crash_point = elsewhere  # type: ignore[attr-defined]

    async def recorded_first(
        self: Attempts, held: Held, ready: Ready, agency: Agency | None
    ) -> Result:
        await self._record(held, ready, Delivered("not yet"), "hasty")
        crash_point("K17")
        return await hand_over(self, held, ready, agency)

    Attempts._hand_over = recorded_first  # type: ignore[method-assign]


def without_constraint(file: Path) -> None:
    """Take the unique constraint of the messages out of an empty database."""
    with closing(sqlite3.connect(file)) as db:
        (made,) = db.execute("SELECT sql FROM sqlite_master WHERE name = 'message'").fetchone()
        loose = made.replace("CONSTRAINT message_once UNIQUE (message_id, sender)", "CHECK (1)")
        assert loose != made
        indexes = db.execute(
            "SELECT sql FROM sqlite_master WHERE tbl_name = 'message' AND type = 'index'"
            " AND sql IS NOT NULL"
        ).fetchall()
        db.execute("DROP TABLE message")
        db.execute(loose)
        for (index,) in indexes:
            db.execute(index)
        db.commit()


def without_constraint_in_postgres(url: str) -> None:
    """Take the unique constraint of the messages out of a database."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as conn:
        conn.execute(text("ALTER TABLE message DROP CONSTRAINT message_once"))


MUTANTS: Mapping[str, Callable[[], None]] = {
    mutant.__name__: mutant for mutant in (unsynced, forgetful, premature, trusting, hasty)
}


def main() -> None:
    """Take the safeguard away, then run what was asked for."""
    MUTANTS[sys.argv.pop(1)]()
    if sys.argv[1] == "store":
        _, _, file, prefix, count, together = sys.argv
        asyncio.run(store_child.main(file, prefix, int(count), int(together)))
    else:
        broker_main()


if __name__ == "__main__":
    main()

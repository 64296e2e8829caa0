"""Past decisions a second that `fame protocol whatif` makes again, from a store of 100,000.

    python -m tests.bench.bench_whatif [DECISIONS]

Bar: 100,000 decisions in less than 60 s. The store is an SQLite file whose messages hold sealed
bodies of 4 KB, so that reading past them counts; records are those of samples of every type,
decided by the sandbox register. The command runs as a process of its own, start-up included.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import insert

from broker.cli.init import make
from broker.core.contrast import Contrast
from broker.core.decision import decide
from broker.core.instant import millis
from broker.core.message import ValidMessage
from broker.core.outcome import Permitted
from broker.core.protocol import Register
from broker.core.recorded import Records
from broker.core.schema import SchemaSet
from broker.core.widening import Key
from broker.edge import tables
from broker.edge.database import StoreSettings, open_database
from broker.edge.ids import new_id
from broker.edge.migrations import migrate
from broker.edge.registers import load_in_force
from broker.edge.schemas import load_schemas

ROOT = Path(__file__).parents[2]
AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
BAR_S = 60
BODY = 4096
BATCH = 5000
EACH = 8  # samples for each question


def shapes(register: Register, schemas: SchemaSet) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return rows of decisions on samples between every pair that has an agreement."""
    contrast, records = Contrast(register, register, schemas), Records(schemas)
    rows = []
    asked = [
        (Key(*pair, min(clause.versions), purpose), clause)
        for pair, clauses in register.index.items()
        for clause in clauses
        for purpose in sorted(clause.purposes)
    ]
    for key, clause in asked:
        for message, _ in islice(contrast._tries(key, clause, [AT]), EACH):
            rows.append(_row(key, message, register, schemas, records))
    return rows


def _row(
    key: Key, message: ValidMessage, register: Register, schemas: SchemaSet, records: Records
) -> tuple[dict[str, Any], dict[str, Any]]:
    decision = decide(message, key.recipient, register, (), AT, schemas=schemas)
    reason, version = None, None
    if isinstance(decision, Permitted):
        version = decision.version
    else:
        reason = decision.reason.value
    about = {
        "sender": key.sender, "message_type": key.message_type, "schema_version": key.version,
        "purpose": key.purpose,
    }  # fmt: skip
    decided = {
        "recipient": key.recipient, "permitted": reason is None,
        "reason": reason, "protocol": decision.protocol,
        "protocol_version": version, "clause": decision.clause,
        "facts": records.of(message, AT)(key.recipient, ()),
    }  # fmt: skip
    return about, decided


def fill(url: str, made: list[tuple[dict[str, Any], dict[str, Any]]], count: int) -> None:
    """Write ``count`` messages with a decision each."""
    chance = random.Random(5)  # noqa: S311 - the same in every run
    database = open_database(url, StoreSettings())
    migrate(database.migration())
    with database.writing.connect() as conn:
        for start in range(0, count, BATCH):
            messages, bodies, decisions = [], [], []
            for number in range(start, min(start + BATCH, count)):
                about, decided = chance.choice(made)
                at = millis(AT + timedelta(seconds=number))
                body = chance.randbytes(BODY)
                messages.append(about | _message(number, at, body))
                bodies.append({"message": messages[-1]["id"], "recipient": "", "sealed": body})
                decisions.append(decided | _decision(messages[-1]["id"]))
            with database.transaction(conn):
                conn.execute(insert(tables.message), messages)
                conn.execute(insert(tables.sealed_body), bodies)
                conn.execute(insert(tables.decision), decisions)
    database.close(sound=True)


def _message(number: int, at: int, body: bytes) -> dict[str, Any]:
    return {
        "id": new_id(), "message_id": new_id(), "digest": bytes(32), "system": "system",
        "priority": "ROUTINE", "created_at": at, "received_at": at, "expires_at": at,
        "trace_id": "0" * 32, "size": BODY, "kek_id": "k", "receipt": body[:1500],
        "ledger_seq": number,
    }  # fmt: skip


def _decision(message: str) -> dict[str, Any]:
    return {
        "message": message, "withheld": orjson.dumps([]).decode(), "register_digest": "0" * 64,
        "step": None, "change": None, "gateway": None,
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        make(home, sandbox=True, port=0, at=AT - timedelta(days=30))
        register = load_in_force(home / "protocols").register
        made = shapes(register, load_schemas(ROOT / "schemas"))
        fill(f"sqlite:///{home / 'data' / 'fame.db'}", made, count)
        draft = home / "ne-referrals.v2.toml"
        signed = (home / "protocols/sharing/ne-referrals.v1.toml").read_text()
        words = signed.replace("version = 1", "version = 2", 1).replace('"category:health",', "")
        draft.write_text(words.replace('purposes = ["CIN"]', 'purposes = ["CP"]', 1))
        command = ("protocol", "whatif", str(draft), "--config", str(home), "--json")
        program = "import sys; from broker.cli import main; main()"
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", program, *command], capture_output=True, text=True, check=True
        )
        took = time.perf_counter() - started
    found = json.loads(done.stdout)
    turned = sum(flip["count"] for flip in found["flips"])
    print(f"{found['decisions']:,} decisions of {len(made)} kinds in {took:.1f} s", end=": ")
    print(
        f"{found['decisions'] / took:,.0f} a second; {turned:,} turn in {len(found['flips'])} ways"
    )
    per_bar = BAR_S * count / 100_000
    print(f"bar: 100,000 in less than {BAR_S} s, {'met' if took < per_bar else 'not met'}")


if __name__ == "__main__":
    main()

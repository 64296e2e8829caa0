"""Faults that are staged one at a time, against a broker as a process, and then judged.

Two hundred requests at once with the same message, a signer's certificate that is revoked
between acceptance and delivery, an agreement that is suspended then, keys that change
while messages are on their way, a database log that was torn.
"""

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx2
import pytest

from broker.cli import pki
from broker.cli import run as fame
from broker.core.signing import load_signing_key
from broker.edge.database_sqlite import reading_engine
from broker.edge.store import verify_ledger
from tests.live.harness import client_context
from tests.live.history import Ban
from tests.live.play import Stage, finish, staged
from tests.live.sizes import Embedded, new_state
from tests.live.workload import COLLECTED, LINES, Mint

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
TOGETHER = 200
MADE = "SELECT 1 FROM sqlite_master WHERE name = 'message'"
KNOWN_S = 30.0
SIGNER = "hylton-school"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_state(tmp_path_factory.mktemp("rows"))


@pytest.fixture
def state(sandbox: Path, tmp_path: Path) -> Path:
    state = tmp_path / "broker"
    shutil.copytree(sandbox, state)
    return state


def chance() -> random.Random:
    return random.Random()  # noqa: S311 - not a secret


def test_of_two_hundred_at_once_one_is_kept_and_all_get_its_receipt(state: Path) -> None:
    message = Mint(state, chance()).make(LINES[2], 1, 0)

    async def send(port: int) -> list[httpx2.Response]:
        context = client_context(state, message.sent.sender)
        limits = httpx2.Limits(max_connections=TOGETHER)
        async with httpx2.AsyncClient(verify=context, timeout=60, limits=limits) as client:
            url = f"https://localhost:{port}/messages"
            headers = {"content-type": "application/xml"}
            posts = (
                client.post(url, content=message.envelope, headers=headers) for _ in range(TOGETHER)
            )
            return await asyncio.gather(*posts)

    size = Embedded(state)
    size.start()
    try:
        answers = asyncio.run(send(size.ports()[0]))
    finally:
        size.stop()

    statuses = {answer.status_code for answer in answers}
    receipts = {answer.content for answer in answers if answer.is_success}
    with closing(sqlite3.connect(state / "data" / "fame.db")) as db:
        (kept,) = db.execute("SELECT count(*) FROM message").fetchone()
    assert statuses <= {200, 202, 429, 503}
    assert len([answer for answer in answers if answer.is_success]) > TOGETHER / 4
    assert len(receipts) == 1
    assert kept == 1


def register(state: Path, text: Callable[[str], str]) -> None:
    """Change the file of the signing agency at one stroke."""
    file = state / "protocols" / "agencies" / f"{SIGNER}.toml"
    fresh = file.with_suffix(".new")
    fresh.write_text(text(file.read_text(encoding="utf-8")), encoding="utf-8")
    fresh.replace(file)


def test_what_waits_is_not_handed_over_once_its_signers_certificate_is_revoked(
    state: Path,
) -> None:
    revoked = datetime.now(UTC).replace(microsecond=0)  # noqa: TID251 - the registrar's clock

    with staged(Embedded(state), 28, subjects=1, pause_s=0.02) as stage:
        assert stage.crash_at("K12", 3)  # claimed, and not handed over
        line = f'file = "certificates/{SIGNER}/signing.cert.pem"'
        register(state, lambda text: text.replace(line, f"{line}\nrevoked_at = {revoked:%FT%TZ}"))
        fingerprint = Mint(state, chance()).key(SIGNER).fingerprint
        stage.bans.append(Ban(fingerprint, time.time()))
        stage.size.start()
        time.sleep(1.0)

    played = finish(stage, 28)
    codes = {row.state for row in played.history.outcomes}
    assert played.verdict.red <= {"aborted_read"}, str(played.verdict)
    assert {"refused", "delivered"} <= codes


def test_what_waits_is_not_handed_over_once_its_agreement_is_suspended(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAME_CONFIG", str(state / "fame.toml"))
    agreement = "ne-referrals"
    with staged(Embedded(state), 30, subjects=1, pause_s=0.02) as stage:
        assert stage.crash_at("K12", 3)  # claimed, and not handed over
        assert fame(["protocol", "suspend", agreement, "--agency", COLLECTED]) == 0
        stage.bans.append(Ban(agreement, time.time()))
        stage.size.start()
        time.sleep(1.0)

    played = finish(stage, 30)

    ended = {row.state for row in played.history.outcomes if row.recipient == COLLECTED}
    assert played.verdict.red <= {"aborted_read"}, str(played.verdict)
    assert "refused" in ended


def test_keys_change_under_load_and_nothing_is_refused_that_overlaps(state: Path) -> None:
    with staged(Embedded(state), 27, subjects=1, pause_s=0.02) as stage:
        time.sleep(0.5)
        rotate(state, stage)
        time.sleep(1.5)

    played = finish(stage, 27)
    assert played.verdict.clean, str(played.verdict)
    signers = {sent.under for sent in played.history.sent if sent.sender == SIGNER}
    assert len(signers) > len([line for line in LINES if line.sender == SIGNER])
    rivals = {e.mark for e in played.history.events if e.status == 409}
    refused = {e.mark for e in played.history.events if e.status in range(400, 500)}
    assert refused == rivals  # no message was refused for its key


def reloaded(state: Path, change: Callable[[], object]) -> None:
    """Change the register and wait until the broker has taken it up."""
    log = state / "broker.log"
    before = log.read_bytes().count(b'"register_reloaded"')
    change()
    until = time.monotonic() + KNOWN_S
    while log.read_bytes().count(b'"register_reloaded"') == before:
        assert time.monotonic() < until
        time.sleep(0.05)


def rotate(state: Path, stage: Stage) -> None:
    """Register a second certificate; once the broker knows it, the agency signs with it."""
    key = pki.new_ec_key()
    now = datetime.now(UTC)  # noqa: TID251 - the registrar's clock
    authority = pki.load_authority(state / "ca")
    certificate = pki.certificate_pem(pki.signing_certificate(authority, key, SIGNER, now))
    file = state / "protocols" / "certificates" / SIGNER / "second.cert.pem"
    entry = f'\n[[certificate]]\nfile = "certificates/{SIGNER}/second.cert.pem"\n'
    reloaded(state, lambda: file.write_bytes(certificate))
    reloaded(state, lambda: register(state, lambda text: text + entry))
    for stream in stage.clients:
        stream.mint.use(SIGNER, load_signing_key(pki.key_pem(key), certificate))


def torn(state: Path, scratch: Path, change: Callable[[bytearray], None]) -> set[str]:
    """Return what opens of a copy of the database whose log was changed."""
    for name in ("fame.db", "fame.db-wal"):
        (scratch / name).write_bytes((state / name).read_bytes())
    (scratch / "fame.db-shm").unlink(missing_ok=True)
    log = bytearray((scratch / "fame.db-wal").read_bytes())
    change(log)
    (scratch / "fame.db-wal").write_bytes(bytes(log))
    engine = reading_engine(f"sqlite:///{scratch / 'fame.db'}", busy_timeout_s=1, connections=1)
    try:
        with engine.connect() as conn:
            if not conn.exec_driver_sql(MADE).first():
                return set()  # cut before the tables were made
            assert verify_ledger(conn).fault == ""
            return {row[0] for row in conn.exec_driver_sql("SELECT message_id FROM message")}
    finally:
        engine.dispose()


def cut(log: bytearray, place: int) -> None:
    del log[place:]


def turn(log: bytearray, place: int, bit: int) -> None:
    log[place] ^= 1 << bit


def test_a_torn_log_opens_as_a_prefix_of_what_was_kept(tmp_path: Path) -> None:
    """Cut at places of chance, or with a bit turned: what is left is the past, and whole."""
    state, scratch = tmp_path / "state", tmp_path / "scratch"
    state.mkdir()
    scratch.mkdir()
    command = [sys.executable, "-m", "tests.live.store_child", str(state / "fame.db"), "m", "40"]
    environment = {**os.environ, "FAME_CRASH": "K10:25"}  # noqa: TID251 - a child inherits it
    subprocess.run([*command, "1"], cwd=ROOT, env=environment, check=False, capture_output=True)
    seed = random.randrange(1 << 32)  # noqa: S311 - printed with a failure
    dice = random.Random(seed)  # noqa: S311 - repeatable
    size = (state / "fame.db-wal").stat().st_size
    whole = torn(state, scratch, lambda _log: None)

    def in_order(kept: set[str]) -> bool:
        return kept == {f"m-{number}" for number in range(len(kept))}

    assert len(whole) >= 20
    for _ in range(40):
        place, bit = dice.randrange(size), dice.randrange(8)
        for change in (partial(cut, place=place), partial(turn, place=place, bit=bit)):
            assert in_order(torn(state, scratch, change)), f"seed {seed}: {place}, {bit}"

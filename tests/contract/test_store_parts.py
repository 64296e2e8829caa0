"""The small parts that the store is made of: ids, keys, crash points, the clock."""

import os
import subprocess
import sys
import threading
import uuid
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from broker.core.errors import Permanent
from broker.core.reasons import Reason
from broker.edge.clock import SystemClock
from broker.edge.crash import POINTS, CrashPlan, crash_point
from broker.edge.ids import Uuid7, new_id
from broker.edge.sealing import KeyRing, read_key

OLD, NEW = bytes(32), bytes(range(32))


def test_an_id_is_a_uuid_of_version_7_that_holds_its_millisecond() -> None:
    made = uuid.UUID(Uuid7()(1_700_000_000_123))

    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == 1_700_000_000_123


def test_ids_rise_also_within_a_millisecond_and_when_the_clock_goes_back() -> None:
    make = Uuid7()

    made = [make(now) for now in (5, 5, 5, 4, 3, 6, 6, 1)]

    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_ids_rise_when_the_random_part_runs_over() -> None:
    make = Uuid7()
    first = make(5)
    make._tail = 2**74 - 1

    second = make(5)

    assert second > first
    assert uuid.UUID(second).int >> 80 == 6
    assert uuid.UUID(second).version == 7


def test_ids_made_by_many_threads_are_all_different() -> None:
    made: list[str] = []

    def make() -> None:
        made.extend(new_id() for _ in range(500))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(made)) == 2000


def test_the_clock_is_aware_and_in_utc() -> None:
    now = SystemClock().now()

    assert now.tzinfo is UTC
    assert now.utcoffset() == timedelta(0)
    assert SystemClock().monotonic() <= SystemClock().monotonic()


def test_what_is_sealed_opens_with_its_context_only() -> None:
    ring = KeyRing([NEW])
    key = ring.new_key()
    sealed = key.seal(b"body", "submission", "delivery")

    stored = ring.unwrap(key.kek_id, key.wrapped)

    assert b"body" not in sealed
    assert stored.open(sealed, "submission", "delivery") == b"body"
    for context in (("submission",), ("delivery", "submission"), ("submissiondelivery",), ()):
        with pytest.raises(Permanent):
            stored.open(sealed, *context)


def test_the_same_body_is_never_sealed_alike() -> None:
    ring = KeyRing([NEW])
    key = ring.new_key()

    assert key.seal(b"body", "s") != key.seal(b"body", "s")
    assert ring.new_key().wrapped != ring.new_key().wrapped


def test_a_changed_body_or_key_does_not_open() -> None:
    ring = KeyRing([NEW])
    key = ring.new_key()
    sealed = key.seal(b"body", "s")

    for place in (0, 12, len(sealed) - 1):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(Permanent):
            key.open(bytes(changed), "s")
    with pytest.raises(Permanent):
        key.open(b"", "s")
    for wrapped in (key.wrapped[:-1] + bytes([key.wrapped[-1] ^ 1]), b"", key.wrapped[:8]):
        with pytest.raises(Permanent):
            ring.unwrap(key.kek_id, wrapped)


def test_after_rotation_old_messages_open_and_new_ones_use_the_new_key() -> None:
    before = KeyRing([OLD])
    old_key = before.new_key()
    sealed = old_key.seal(b"body", "s")

    after = KeyRing([NEW, OLD])

    assert after.unwrap(old_key.kek_id, old_key.wrapped).open(sealed, "s") == b"body"
    assert after.new_key().kek_id == KeyRing([NEW]).current != before.current
    with pytest.raises(Permanent, match="not loaded"):
        KeyRing([NEW]).unwrap(old_key.kek_id, old_key.wrapped)


def test_an_erased_key_opens_nothing() -> None:
    with pytest.raises(Permanent) as caught:
        KeyRing([NEW]).unwrap(KeyRing([NEW]).current, None)

    assert caught.value.reason is Reason.ERASED


def test_the_name_of_a_key_does_not_tell_the_key() -> None:
    assert KeyRing([NEW]).current not in NEW.hex()
    assert repr(KeyRing([NEW]).new_key()).count("=") == 1


def test_keys_are_read_from_files(tmp_path: Path) -> None:
    file = tmp_path / "kek.key"
    file.write_text(NEW.hex() + "\n")

    assert read_key(file) == NEW
    assert KeyRing.load(file).current == KeyRing([NEW]).current


@pytest.mark.parametrize("content", ["", "zz" * 32, "00" * 31, "00" * 33, "é" * 64])
def test_a_file_that_holds_no_key_is_refused_and_not_repeated(tmp_path: Path, content: str) -> None:
    file = tmp_path / "kek.key"
    file.write_text(content)

    with pytest.raises(Permanent) as caught:
        read_key(file)

    assert not content or content not in str(caught.value)


def test_a_key_file_that_is_missing_and_a_ring_without_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Permanent):
        read_key(tmp_path / "none")
    with pytest.raises(Permanent):
        KeyRing([])
    with pytest.raises(Permanent):
        KeyRing([bytes(16)])


def test_a_crash_plan_counts_the_passes_of_its_point_alone() -> None:
    plan = CrashPlan("K9:3")

    reached = [plan.reached(name) for name in ("K9", "K10", "K9", "K1", "K9", "K9")]

    assert reached == [False, False, False, False, True, False]
    assert CrashPlan("K9").reached("K9")
    assert not any(CrashPlan("").reached(name) for name in POINTS)


def test_a_crash_plan_for_no_known_point_is_an_error() -> None:
    for text in ("K0", "K19:1", "k9", "K9:0", "K9:-1", "K9:x"):
        with pytest.raises(ValueError, match=r"FAME_CRASH|int"):
            CrashPlan(text)


def test_the_17_points_are_there_and_without_a_plan_they_do_nothing() -> None:
    assert len(POINTS) == 17
    for name in POINTS:
        crash_point(name)


def test_a_crash_is_a_kill_that_nothing_can_catch() -> None:
    program = "from broker.edge.crash import crash_point\ntry: crash_point('K4')\nfinally: print(1)"

    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "FAME_CRASH": "K4:1"},  # noqa: TID251 - a child inherits it
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=False,
        timeout=30,
    )

    assert (done.returncode, done.stdout) == (-9, b"")

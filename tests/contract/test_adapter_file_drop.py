import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.contract import Delivered, Delivery, Refused, RetryLater
from adapters.file_drop import FileDrop
from broker.core.identity import AgencyId, MessageId
from broker.core.reasons import Reason

DELIVERY = Delivery(
    delivery_id="01938af0-1111-7000-8000-000000000001",
    recipient=AgencyId("hylton-school"),
    sender=AgencyId("sunderland-csc"),
    message_id=MessageId("01938af0-2222-7000-8000-000000000002"),
    message_type="ReferralOutcome",
    body=b"<Envelope>Amy Example</Envelope>",
    attempt=1,
    reduced=False,
    traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
)
XML = f"{DELIVERY.delivery_id}.xml"
RECEIPT = f"{DELIVERY.delivery_id}.receipt.json"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
async def drop(tmp_path: Path) -> AsyncIterator[FileDrop]:
    adapter = FileDrop(tmp_path)
    yield adapter
    await adapter.aclose()


async def test_the_message_and_a_receipt_file_appear_and_nothing_else(
    drop: FileDrop, tmp_path: Path
) -> None:
    result = await drop.deliver(DELIVERY)

    assert isinstance(result, Delivered)
    assert names(tmp_path) == sorted([XML, RECEIPT])
    assert (tmp_path / XML).read_bytes() == DELIVERY.body
    receipt = json.loads((tmp_path / RECEIPT).read_bytes())
    assert receipt["delivery_id"] == DELIVERY.delivery_id
    assert result.evidence == f"sha256:{receipt['sha256']}"


async def test_file_names_and_receipts_hold_nothing_of_the_payload(
    drop: FileDrop, tmp_path: Path
) -> None:
    await drop.deliver(DELIVERY)

    assert "Amy" not in " ".join(names(tmp_path))
    assert b"Amy" not in (tmp_path / RECEIPT).read_bytes()


async def test_the_same_delivery_again_leaves_the_file_as_it_was(
    drop: FileDrop, tmp_path: Path
) -> None:
    await drop.deliver(DELIVERY)
    first = (tmp_path / XML).stat()

    result = await drop.deliver(replace(DELIVERY, attempt=2))

    assert isinstance(result, Delivered)
    again = (tmp_path / XML).stat()
    assert (again.st_ino, again.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    assert json.loads((tmp_path / RECEIPT).read_bytes())["attempt"] == 2


async def test_a_part_left_by_a_killed_attempt_is_overwritten(
    drop: FileDrop, tmp_path: Path
) -> None:
    (tmp_path / f".{XML}.part").write_bytes(b"half of someth")

    await drop.deliver(DELIVERY)

    assert (tmp_path / XML).read_bytes() == DELIVERY.body
    assert names(tmp_path) == sorted([XML, RECEIPT])


@pytest.mark.parametrize(
    "delivery_id", ["../../etc/cron.d/x", "/etc/passwd", "a\0b", "", XML, "..", "A" * 36]
)
async def test_an_id_that_is_no_uuid_never_becomes_a_path(
    drop: FileDrop, tmp_path: Path, delivery_id: str
) -> None:
    result = await drop.deliver(replace(DELIVERY, delivery_id=delivery_id))

    assert result == Refused(Reason.INTERNAL)
    assert names(tmp_path) == []


async def test_a_link_planted_under_the_name_is_not_followed(
    drop: FileDrop, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "stolen"
    (tmp_path / f".{XML}.part").symlink_to(elsewhere)

    result = await drop.deliver(DELIVERY)

    assert result == RetryLater(Reason.RECIPIENT_UNREACHABLE)
    assert not elsewhere.exists()


async def test_a_message_whose_receipt_file_failed_may_be_taken_all_the_same(
    drop: FileDrop, tmp_path: Path
) -> None:
    (tmp_path / RECEIPT).mkdir()  # nothing can have that name now

    result = await drop.deliver(DELIVERY)

    assert result == RetryLater(Reason.RECIPIENT_UNREACHABLE, in_doubt=True)
    assert (tmp_path / XML).read_bytes() == DELIVERY.body


async def test_a_missing_directory_is_tried_again_later(tmp_path: Path) -> None:
    adapter = FileDrop(tmp_path / "not-mounted")

    assert await adapter.deliver(DELIVERY) == RetryLater(Reason.RECIPIENT_UNREACHABLE)
    assert not (await adapter.check()).ok
    await adapter.aclose()


async def test_check_says_that_a_directory_is_there(drop: FileDrop) -> None:
    assert (await drop.check()).ok


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("this kernel lets nobody mount a tmpfs")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


async def test_a_full_disk_is_tried_again_and_leaves_no_half_file(small_disk: Path) -> None:
    adapter = FileDrop(small_disk)
    big = replace(DELIVERY, body=b"<Envelope>" + b"x" * 100_000 + b"</Envelope>")

    assert await adapter.deliver(big) == RetryLater(Reason.RECIPIENT_UNREACHABLE)
    assert names(small_disk) == []

    assert isinstance(await adapter.deliver(DELIVERY), Delivered)
    await adapter.aclose()


async def test_two_deliveries_at_once_do_not_disturb_each_other(
    drop: FileDrop, tmp_path: Path
) -> None:
    others = [
        replace(DELIVERY, delivery_id=f"01938af0-1111-7000-8000-0000000000{n:02}", body=b"%d" % n)
        for n in range(10, 30)
    ]

    results = await asyncio.gather(*(drop.deliver(other) for other in others))

    assert all(isinstance(result, Delivered) for result in results)
    for other in others:
        assert (tmp_path / f"{other.delivery_id}.xml").read_bytes() == other.body

"""Lines of the log are lost rather than waited for, and somebody is told how many."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import orjson
import pytest

from broker.edge.telemetry import Lines

LINE = b"x" * 99
ROOM = 20_000


@pytest.fixture
def pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    out, into = os.pipe()
    with open(out, "rb", buffering=0) as reader, open(into, "wb", buffering=0) as writer:  # noqa: PTH123 - descriptors
        yield reader, writer


def fill(lines: Lines) -> int:
    """Write until nothing fits any more, neither into the pipe nor into what is held."""
    count = 0
    while not lines.lost:
        lines.urgent(LINE)
        count += 1
    return count


def test_nobody_waits_for_a_reader_that_sleeps(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    _reader, writer = pipe
    lines = Lines(writer, after_s=600, held_bytes_max=ROOM)

    fill(lines)  # an end at all is the point

    assert (lines.failing, lines.lost) == (True, 1)


def test_what_is_held_for_a_reader_comes_when_it_wakes_and_then_what_is_missing(
    pipe: tuple[BinaryIO, BinaryIO],
) -> None:
    reader, writer = pipe
    lines = Lines(writer, after_s=600, held_bytes_max=ROOM)
    count = fill(lines)

    got = b""
    while len(got) < (count - 1) * 100:
        got += reader.read(65536)
        lines.flush()
    lines.urgent(LINE)
    got += reader.read(65536)

    told = [line for line in got.splitlines() if line != LINE]
    assert got.count(LINE + b"\n") == count  # all but the lost one, and the last
    assert [orjson.loads(line)["found"] for line in told] == [1]
    assert (lines.failing, lines.lost) == (False, 1)


def test_a_line_that_cannot_be_written_is_lost_and_nothing_fails(tmp_path: Path) -> None:
    with open("/dev/full", "wb", buffering=0) as full, (tmp_path / "log").open("wb") as log:  # noqa: PTH123 - no file
        lines = Lines(full, after_s=600)

        lines.urgent(b"first")
        lines.msg(b"second")
        lines.flush()
        failing = lines.failing
        os.dup2(log.fileno(), full.fileno())  # there is room again
        lines.urgent(b"third")

    told, third = (tmp_path / "log").read_bytes().splitlines()
    assert failing
    assert (lines.failing, lines.lost) == (False, 2)
    assert orjson.loads(told)["event"] == "log_lines_lost"
    assert orjson.loads(told)["found"] == 2
    assert third == b"third"


def test_a_reader_that_is_gone_is_no_fault(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    reader, writer = pipe
    reader.close()
    lines = Lines(writer, after_s=600)

    lines.urgent(b"line")

    assert (lines.failing, lines.lost) == (True, 1)


def test_a_torn_line_is_ended_before_the_next(tmp_path: Path) -> None:
    was = resource.getrlimit(resource.RLIMIT_FSIZE)
    with (tmp_path / "log").open("wb", buffering=0) as log:
        lines = Lines(log, after_s=600)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3, was[1]))
        try:
            lines.urgent(b"torn")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, was)
        lines.urgent(b"next")

    torn, told, whole = (tmp_path / "log").read_bytes().splitlines()
    assert (torn, whole) == (b"tor", b"next")
    assert orjson.loads(told)["found"] == 1

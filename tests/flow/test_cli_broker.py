"""The command line against a broker that runs: what a person types in the first ten minutes."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.cli import run
from broker.cli.client import tls_context
from broker.cli.processes import Program, free_port, wait_for_port
from broker.config import load

VACANCY = ["VacancyPublished", "--from", "gateshead-hr", "--purpose", "JOBS"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home") / "broker"
    port = free_port()
    assert run(["init", str(folder), "--sandbox", "--port", str(port)]) == 0
    arguments = ["broker", "serve", "--config", str(folder)]
    with Program("The broker", arguments, folder / "broker.log") as broker:
        wait_for_port(port, broker)
        yield folder
    assert "Traceback" not in (folder / "broker.log").read_text()


@pytest.fixture(autouse=True)
def _chosen(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAME_CONFIG", str(home / "fame.toml"))


@pytest.fixture
def message(tmp_path: Path) -> Path:
    path = tmp_path / "signed.xml"
    to = ["--to", "ne-jobs-portal", "--to", "sunderland-csc"]
    assert run(["sample", "make", *VACANCY, *to, "--sign", "--out", str(path)]) == 0
    return path


def sent(message: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    capsys.readouterr()
    assert (
        run(["message", "send", "-a", "gateshead-hr", "--in", str(message), "--json", *more]) == 0
    )
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert run(list(arguments)) == 0
    return json.loads(capsys.readouterr().out)


def delivery_of(submission: str, agency: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Ask the mailbox until the message has come; the receipt does not wait for that."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for one in said(capsys, "inbox", "ls", "-a", agency, "--json"):
            if one["submission_id"] == submission:
                return str(one["delivery_id"])
    raise AssertionError("the message did not reach the mailbox")


def test_a_message_sent_twice_gets_its_first_receipt(
    message: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = sent(message, capsys)

    again = sent(message, capsys, "--token")

    assert again["signed"] == first["signed"]
    assert [one["decision"] for one in first["receipt"]["outcomes"]] == ["PERMITTED", "PERMITTED"]


def test_a_receipt_is_kept_as_it_was_signed(
    message: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["message", "send", "-a", "gateshead-hr", "--in", str(message)]

    assert run([*arguments, "--receipt", str(tmp_path / "receipt.xml")]) == 0

    assert (tmp_path / "receipt.xml").read_bytes().startswith(b"<Receipt ")
    out = capsys.readouterr().out
    assert "ne-vacancies publish-councils" in out


def test_the_ledger_is_whole_and_holds_what_a_receipt_says(
    message: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt, forged = tmp_path / "receipt.xml", tmp_path / "forged.xml"
    send = ["message", "send", "-a", "gateshead-hr", "--in", str(message)]
    assert run([*send, "--receipt", str(receipt)]) == 0
    signed = receipt.read_bytes()
    forged.write_bytes(signed.replace(b"<Sequence>", b"<Sequence>9"))

    found = said(capsys, "ledger", "check", "--receipt", str(receipt), "--json")

    assert found["entries"] > 0
    assert found["faults"] == []
    assert run(["ledger", "check"]) == 0
    assert run(["ledger", "check", "--receipt", str(forged)]) == 4  # not what the broker signed
    assert run(["ledger", "check", "--receipt", str(message)]) == 4


def test_a_message_is_followed_from_sending_to_acknowledgement(
    message: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submission = sent(message, capsys)["receipt"]["submission_id"]
    delivery = delivery_of(submission, "sunderland-csc", capsys)

    read = tmp_path / "read.xml"
    assert run(["inbox", "get", delivery, "-a", "sunderland-csc", "--out", str(read)]) == 0
    assert b"ReducedEnvelope" in read.read_bytes()
    assert run(["inbox", "ack", delivery, "-a", "sunderland-csc", "--level", "L4"]) == 0

    view = said(capsys, "message", "show", submission, "-a", "gateshead-hr", "--json")
    levels = {one["recipient"]: one["level"] for one in view["recipients"]}
    assert levels == {"ne-jobs-portal": "L1", "sunderland-csc": "L4"}
    steps = said(capsys, "message", "trace", submission, "-a", "gateshead-hr", "--json")
    assert [step["at"] for step in steps] == sorted(step["at"] for step in steps)
    words = " ".join(step["words"] for step in steps)
    for word in ("made VacancyPublished", "kept", "untouched", "withheld: 1", "dealt with"):
        assert word in words


def test_tables_are_for_people(message: Path, capsys: pytest.CaptureFixture[str]) -> None:
    submission = sent(message, capsys)["receipt"]["submission_id"]

    for command in ("show", "trace"):
        assert run(["message", command, submission, "-a", "gateshead-hr"]) == 0
    assert run(["inbox", "ls", "-a", "ne-jobs-portal"]) == 0

    out = capsys.readouterr().out
    assert out.count("ne-jobs-portal") >= 2
    assert "VacancyPublished" in out


def test_a_stranger_is_told_that_nothing_is_there(
    message: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submission = sent(message, capsys)["receipt"]["submission_id"]

    assert run(["message", "show", submission, "-a", "northumbria-police"]) == 1

    assert "sender.not_found" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("letter", "sender.signature.digest_mismatch"), ("unsigned", "sender.signature.missing")],
)
def test_a_tampered_message_ends_with_4(
    message: Path, tmp_path: Path, kind: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.xml"
    assert run(["sample", "tamper", kind, "--in", str(message), "--out", str(bad)]) == 0

    assert run(["message", "send", "-a", "gateshead-hr", "--in", str(bad)]) == 4

    assert reason in capsys.readouterr().err


def test_a_refusal_ends_with_3_and_says_what_would_help(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "referral.xml"
    who = ["--from", "hylton-school", "--to", "northumbria-police", "--purpose", "CP"]
    assert run(["sample", "make", "Referral", *who, "--sign", "--out", str(path)]) == 0

    assert run(["message", "send", "-a", "hylton-school", "--in", str(path)]) == 3

    err = capsys.readouterr().err
    assert "policy.no_isp" in err
    assert "agree a sharing protocol" in err


def test_only_the_sender_may_send_its_messages(
    message: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["message", "send", "-a", "hylton-school", "--in", str(message)]) == 4

    assert "sender.peer_not_sender" in capsys.readouterr().err


def test_a_storm_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    who = ["--from", "gateshead-hr", "--to", "ne-jobs-portal", "--purpose", "JOBS"]

    answers = said(capsys, "sample", "storm", *who, "--rate", "200", "--count", "40", "--json")

    assert answers == {"202": 40}


def test_what_was_given_up_is_for_operators(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "dlq", "ls", "--json") == []
    assert said(capsys, "clock", "ls", "--state", "escalated", "--json") == []
    assert run(["clock", "ls"]) == 0
    assert run(["clock", "performance"]) == 0
    assert run(["clock", "show", "nothing"]) == 1
    assert run(["dlq", "show", "nothing"]) == 1
    assert run(["dlq", "retry", "nothing"]) == 1
    assert run(["dlq", "discard", "nothing", "--why", "duplicate"]) == 1
    assert run(["dlq", "retry", "nothing", "--dry-run"]) == 0
    assert run(["dlq", "discard", "nothing", "--why", "duplicate", "--dry-run"]) == 0
    assert run(["message", "replay", "nothing"]) == 1


def test_the_doctor_sees_that_somebody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    findings = said(capsys, "doctor", "--json")

    assert {f["state"] for f in findings if f["what"] == "port"} == {"green"}


def test_a_second_broker_on_the_port_says_so_and_what_to_do(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", "--config", str(home)]) == 5

    err = capsys.readouterr().err
    assert "another program listens there" in err
    assert "--port" in err


def test_a_broker_stops_at_once_though_a_peer_keeps_its_connection(tmp_path: Path) -> None:
    folder, port = tmp_path / "broker", free_port()
    assert run(["init", str(folder), "--sandbox", "--port", str(port)]) == 0
    tls = tls_context(load(folder / "fame.toml", env={}).config, None)
    with Program("broker", ["broker", "serve", "-c", str(folder)], tmp_path / "log") as broker:
        wait_for_port(port, broker)
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            tls.wrap_socket(plain, server_hostname="localhost") as idle,
        ):
            idle.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert idle.recv(4096).startswith(b"HTTP/1.1 200")
            began = time.monotonic()
            broker.stop()

    assert time.monotonic() - began < 3
    assert broker.exit_code == 0
    assert "broker_stopped" in (tmp_path / "log").read_text()


def test_a_broker_that_is_not_there_is_5(
    message: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAME_BROKER__URL", f"https://localhost:{free_port()}")

    assert run(["message", "send", "-a", "gateshead-hr", "--in", str(message)]) == 5

    assert "fame serve" in capsys.readouterr().err


def test_a_bench_is_short_and_complete(capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, "bench", "--count", "50", "--connections", "4", "--json")

    assert found["messages"] == 45
    assert found["accepted a second"] > 0


def test_a_route_is_paused_and_resumed_and_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["route", "pause", "ne-jobs-portal", "--dry-run"]) == 0
    assert run(["route", "pause", "ne-jobs-portal"]) == 0
    paused = {one["recipient"]: one for one in said(capsys, "route", "ls", "--json")}
    assert run(["route", "pause", "ne-jobs-portal"]) == 0
    assert "already" in capsys.readouterr().out
    assert run(["route", "resume", "ne-jobs-portal"]) == 0
    rows = {one["recipient"]: one for one in said(capsys, "route", "ls", "--json")}
    lags = {one["recipient"]: one for one in said(capsys, "route", "lag", "--json")}

    assert paused["ne-jobs-portal"]["paused_since"] is not None
    assert rows["ne-jobs-portal"]["paused_since"] is None
    assert rows["ne-jobs-portal"]["transport"] == "in-process"
    assert lags["ne-jobs-portal"]["behind"] is None
    assert run(["route", "ls"]) == 0
    assert run(["route", "lag"]) == 0
    assert "ne-jobs-portal" in capsys.readouterr().out
    assert run(["route", "pause", "nobody-here"]) == 1
    assert run(["deliver", "--agency", "ne-jobs-portal"]) == 2

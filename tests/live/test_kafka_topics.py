"""`fame topics` on a real Kafka, and its AsyncAPI document before the published schema."""

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from broker.cli import run
from broker.core.topics import UNCLEAN, Acl, Plan, parse_topics
from broker.edge.kafka_admin import ClusterAdmin
from tests.live.kafka_world import TOPICS, administer
from tests.live.services.kafka import KafkaCluster
from tests.live.services.npm import package_file

pytestmark = pytest.mark.live

SPECIFICATION = "@asyncapi/specs@6.11.1"
SCHEMA = "schemas/3.0.0-without-$id.json"
SCHEMA_SHA256 = "abe96881dbfaad495ccbb6bd8d3fb43ca18a13b9d7564849ccb66f39d5e5b20f"

PATIENCE_S = 30

Fame = Callable[..., tuple[int, str]]


@pytest.fixture
def admin(kafka: KafkaCluster) -> ClusterAdmin:
    return administer(kafka.access)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "topics.toml"
    path.write_text(TOPICS.format(prefix=f"fame.c{uuid.uuid4().hex[:8]}."), encoding="utf-8")
    return path


@pytest.fixture
def fame(
    kafka: KafkaCluster, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Fame:
    password = tmp_path / "admin.password"
    password.write_text(kafka.access.password, encoding="utf-8")
    access = {
        "--bootstrap": kafka.access.bootstrap,
        "--file": str(file),
        "--ca-file": str(kafka.access.ca_file),
        "--user": kafka.access.user,
        "--password-file": str(password),
    }

    def call(verb: str, *more: str) -> tuple[int, str]:
        given = [part for pair in access.items() for part in pair]
        code = run(["topics", verb, *given, *more])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return call


def settle(fame: Fame) -> None:
    """Wait until each node says what the cluster has decided, a few times over."""
    until = time.monotonic() + PATIENCE_S
    said = [1]
    while said[-3:] != [0, 0, 0]:
        assert time.monotonic() < until
        said.append(fame("check")[0])


def test_a_plan_is_applied_once_and_then_the_cluster_is_as_the_file_says(fame: Fame) -> None:
    before, told = fame("check")
    dry, _ = fame("apply", "--dry-run")
    still, _ = fame("check")
    applied, _ = fame("apply")
    settle(fame)
    _, planned = fame("plan")
    again, nothing = fame("apply")

    assert (before, dry, still) == (1, 0, 1)
    assert "create " in told
    assert "fame-deliver-gateshead-csc to Read topic" in told
    assert (applied, again) == (0, 0)
    assert planned == nothing == "The cluster is as the file says.\n"


def test_what_others_did_to_our_topics_is_found_and_undone(
    fame: Fame, file: Path, admin: ClusterAdmin
) -> None:
    fame("apply")
    wanted = parse_topics(file.read_text(encoding="utf-8"))
    (first, *_) = wanted.topics.values()
    stranger = Acl("stranger", "topic", first.name, "Read")
    admin.apply(Plan(allow=(stranger,)))
    grown = file.read_text().replace(
        "[agency.sunderland-csc]", "[agency.sunderland-csc]\npartitions = 3"
    )
    file.write_text(grown.replace('"4194304"', '"2097152"'), encoding="utf-8")

    _, told = fame("plan", "--json")
    applied, _ = fame("apply")
    settle(fame)

    plan = json.loads(told)
    assert [acl["principal"] for acl in plan["forbid"]] == ["stranger"]
    assert plan["grow"] == [first.name]
    assert len(plan["configure"]) == 2
    assert applied == 0
    assert admin.look(wanted.prefix).topics[first.name].partitions == 3


def test_a_topic_that_a_node_may_lead_which_missed_records_is_found_and_mended(
    fame: Fame, file: Path, admin: ClusterAdmin
) -> None:
    fame("apply")
    settle(fame)
    wanted = parse_topics(file.read_text(encoding="utf-8"))
    (first, *_) = wanted.topics.values()
    admin.apply(Plan(configure=(replace(first, config={**first.config, UNCLEAN: "true"}),)))
    until = time.monotonic() + PATIENCE_S
    while fame("check")[0] == 0:
        assert time.monotonic() < until

    _, told = fame("plan", "--json")
    applied, _ = fame("apply")
    settle(fame)

    assert UNCLEAN not in file.read_text(encoding="utf-8")
    assert json.loads(told)["configure"] == [first.name]
    assert applied == 0
    assert admin.look(wanted.prefix).topics[first.name].config[UNCLEAN] == "false"


def test_principals_get_passwords_that_only_their_owner_can_read(
    fame: Fame, file: Path, admin: ClusterAdmin, tmp_path: Path
) -> None:
    unique = f"w{uuid.uuid4().hex[:8]}"
    text = file.read_text(encoding="utf-8").replace("fame-deliver-", f"{unique}-")
    text = text.replace("fame-broker", f"{unique}-broker")
    file.write_text(text, encoding="utf-8")
    folder = tmp_path / "passwords"

    code, told = fame("apply", "--passwords", str(folder))
    settle(fame)
    again, _ = fame("apply", "--passwords", str(folder))

    made = folder / f"{unique}-gateshead-csc.password"
    assert (code, again) == (0, 0)
    assert made.stat().st_mode & 0o777 == 0o600
    assert made.read_text().strip() not in told
    assert f"{unique}-gateshead-csc" in admin.users()


def test_a_wrong_password_is_told_in_a_line(fame: Fame, tmp_path: Path) -> None:
    (tmp_path / "admin.password").write_text("wrong", encoding="utf-8")

    code, told = fame("plan")

    assert code == 5
    assert "broker.transport_refused" in told
    assert "wrong" not in told


def test_the_document_of_the_topics_follows_the_published_schema_of_asyncapi(
    capsys: pytest.CaptureFixture[str],
) -> None:
    schema = json.loads(package_file(SPECIFICATION, SCHEMA, SCHEMA_SHA256).read_bytes())
    validator = Draft7Validator(schema)

    assert run(["topics", "asyncapi"]) == 0
    document = json.loads(capsys.readouterr().out)

    assert [error.message for error in validator.iter_errors(document)] == []
    channel = document["channels"]["hylton-school"]
    for place, wrong in [
        (document["operations"]["deliver-hylton-school"], {"action": "sends"}),
        (document["servers"]["cluster"], {"protocol": None}),
        (channel["bindings"]["kafka"], {"partitions": 0}),
    ]:
        kept = dict(place)
        place.update(wrong)
        assert list(validator.iter_errors(document)), wrong
        place.clear()
        place.update(kept)

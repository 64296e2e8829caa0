"""What deploy/ holds for other people's machines, checked by the tools that will read it."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]

from broker.config import load
from tests.contract.running import BROKER, running
from tests.live.tools import require

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = "1.31"
EXPOSURE_MAX = 2.0  # of 10, as systemd-analyze counts it
FAMILY = re.compile(r"# TYPE (\S+) (\w+)")
UNITS = ("fame-serve.service", "fame-deliver@.service")
PAGES = ("RUNBOOK.md", "CAPACITY.md", "README.md")


def run(*command: str, cwd: Path = DEPLOY) -> str:
    """Run a tool that has to succeed; return what it said."""
    done = subprocess.run(
        [require(command[0]), *command[1:]], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from strings(inner)


# -- Prometheus, Grafana and the runbook ------------------------------------------------------


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (DEPLOY / "grafana" / "dashboards" / "fame.json").read_text()
    )
    return found


def expressions() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]


def test_promtool_takes_the_alerts_and_their_tests_pass() -> None:
    assert f"{len(alerts())} rules found" in run(
        "promtool", "check", "rules", "prometheus/alerts.yml"
    )
    assert "SUCCESS" in run("promtool", "test", "rules", "prometheus/alerts_test.yml")


def test_promtool_takes_the_configuration(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(DEPLOY / "prometheus", tmp_path / "prometheus"))
    for name in ("nodes-ca.pem", "client.pem", "client.key"):
        (folder / name).touch()
    settings = folder / "prometheus.yml"
    settings.write_text(settings.read_text().replace("/etc/prometheus", str(folder)))

    assert "SUCCESS" in run("promtool", "check", "config", str(settings))


def test_every_expression_of_the_dashboard_is_one(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression}
        for number, expression in enumerate(expressions())
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))

    assert f"{len(rules)} rules found" in run("promtool", "check", "rules", str(file))


async def test_every_metric_that_is_named_exists(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        text = (await broker.get(BROKER, "/metrics")).text
    # Some exist with Kafka only; the composition root names them all.
    known = set(re.findall(r'"(fame_[a-z_]+)"', (ROOT / "broker" / "app.py").read_text()))
    for name, kind in FAMILY.findall(text):
        known |= {name}
        if kind == "histogram":
            known |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    named = set()
    for words in (
        *(rule["expr"] for rule in alerts()),
        *expressions(),
        *((DEPLOY / page).read_text() for page in PAGES),
    ):
        named |= set(re.findall(r"\bfame_[a-z_]+\b", words))

    assert len(named) > 10
    assert named <= known


def test_every_alert_names_a_heading_of_the_runbook() -> None:
    headings = re.findall(r"^## (.*)$", (DEPLOY / "RUNBOOK.md").read_text(), re.MULTILINE)

    for rule in alerts():
        page, _, heading = rule["annotations"]["runbook"].partition(", ")
        assert page == "RUNBOOK.md"
        assert heading in headings


def test_every_command_of_the_pages_exists() -> None:
    named = set()
    for page in PAGES:
        named |= set(re.findall(r"`fame ([a-z]+)(?: ([a-z-]+))?", (DEPLOY / page).read_text()))
    assert len(named) > 8

    for noun, verb in sorted(named):
        command = [noun, verb] if verb else [noun]
        done = subprocess.run(
            [sys.executable, "-m", "broker", *command, "--help"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, command


# -- compose ----------------------------------------------------------------------------------


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def test_docker_compose_takes_the_file() -> None:
    run("docker-compose", "-f", "compose.yaml", "config", "-q")


def test_every_service_is_held_down_and_its_files_are_there() -> None:
    made_by_the_operator = DEPLOY / "secrets"
    for name, service in compose()["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        for volume in service["volumes"]:
            source, _, rest = volume.partition(":")
            if source.startswith("."):
                path = DEPLOY / source
                assert path.is_relative_to(made_by_the_operator) or path.exists(), volume
                assert rest.endswith(":ro"), volume


def test_only_the_proxy_is_reached_from_outside() -> None:
    published = {
        name: service["ports"]
        for name, service in compose()["services"].items()
        if "ports" in service
    }

    assert published == {"haproxy": ["8443:8443"], "grafana": ["127.0.0.1:3000:3000"]}


def test_every_variable_of_the_proxys_configuration_is_given() -> None:
    text = (DEPLOY / "haproxy" / "haproxy.cfg").read_text()
    used = set(re.findall(r'"\$\{(\w+)\}"', text))

    assert used == set(compose()["services"]["haproxy"]["environment"])


@pytest.mark.parametrize("file", ["compose/fame.toml", "kubernetes/overlays/example/fame.toml"])
def test_the_settings_can_be_used(file: str) -> None:
    config = load(DEPLOY / file, env={}).config

    assert config.store.url.startswith("postgresql://")
    assert "verify-full" in config.store.url
    assert config.delivery.transport == "kafka"


def test_the_kafka_nodes_lose_nothing_and_let_nobody_in_unasked() -> None:
    lines = (DEPLOY / "compose" / "kafka" / "server.properties").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    assert given["min.insync.replicas"] == "2"
    assert given["unclean.leader.election.enable"] == "false"
    assert given["auto.create.topics.enable"] == "false"
    assert given["allow.everyone.if.no.acl.found"] == "false"
    assert "PLAINTEXT" not in given["listener.security.protocol.map"]
    run("bash", "-n", "compose/kafka/start.sh")


# -- the image --------------------------------------------------------------------------------


def pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", path.read_text(), re.MULTILINE))


def test_the_image_installs_what_is_locked_and_does_not_run_as_root() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    copied = [line.split()[1:-1] for line in lines if re.match(r"COPY (?!--from)", line)]

    assert "USER 10001:10001" in lines
    assert any("--require-hashes --only-binary :all:" in line for line in lines)
    assert all((ROOT / name).exists() for names in copied for name in names)


def test_what_the_image_locks_is_what_the_tests_run_with() -> None:
    path = DEPLOY / "requirements.lock"
    locked, tested = pins(path), pins(ROOT / "requirements-dev.lock")
    entries = re.findall(r"^\S+==.*(?:\n .*)*", path.read_text(), re.MULTILINE)

    assert {"aiokafka", "psycopg", "lxml"} <= set(locked)
    assert locked.items() <= tested.items()
    assert all("--hash=sha256:" in entry for entry in entries)


# -- Kubernetes -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    text = run("kubectl", "kustomize", "kubernetes/overlays/example")
    return [document for document in yaml.safe_load_all(text) if document]


def test_kustomize_builds_what_kubernetes_takes(manifests: list[dict[str, Any]]) -> None:
    for document in manifests:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)

    kinds = {document["kind"] for document in manifests}
    assert {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"} <= kinds


def test_the_checker_of_manifests_would_find_a_mistake(manifests: list[dict[str, Any]]) -> None:
    wrong = next(document for document in manifests if document["kind"] == "Deployment")
    wrong = {**wrong, "spec": {**wrong["spec"], "replica": 2}}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_no_manifest_holds_a_secret_and_none_is_left_unnamed(
    manifests: list[dict[str, Any]],
) -> None:
    assert not [document for document in manifests if document["kind"] == "Secret"]
    assert "AGENCY" not in [word for document in manifests for word in strings(document)]
    assert "PRIVATE KEY" not in str(manifests)


def test_every_pod_is_held_down(manifests: list[dict[str, Any]]) -> None:
    pods = {
        document["metadata"]["name"]: document["spec"]["template"]["spec"]
        for document in manifests
        if document["kind"] == "Deployment"
    }
    assert set(pods) == {"fame-serve", "fame-deliver-hylton-school"}
    for pod in pods.values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            held = container["securityContext"]
            assert held["allowPrivilegeEscalation"] is False
            assert held["readOnlyRootFilesystem"] is True
            assert held["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


def test_a_worker_has_its_own_agencys_key_and_login(manifests: list[dict[str, Any]]) -> None:
    (worker,) = [
        document["spec"]["template"]["spec"]
        for document in manifests
        if document["kind"] == "Deployment" and "deliver" in document["metadata"]["name"]
    ]
    (container,) = worker["containers"]
    secrets = {
        volume["name"]: volume["secret"]["secretName"]
        for volume in worker["volumes"]
        if "secret" in volume
    }
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}

    assert container["args"][:3] == ["deliver", "--agency", "hylton-school"]
    assert secrets["kafka"] == "fame-kafka-hylton-school"
    assert secrets["agency"] == "fame-agency-hylton-school"
    assert mounts["agency"] == "/etc/fame/agencies/hylton-school"


def test_the_topics_of_the_example_are_the_shipped_ones() -> None:
    example = DEPLOY / "kubernetes" / "overlays" / "example" / "topics.toml"

    assert example.read_text() == (DEPLOY / "kafka" / "topics.toml").read_text()


# -- systemd ----------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_takes_the_unit_and_finds_it_well_shut(unit: str, tmp_path: Path) -> None:
    here = unit.replace("@.", "@hylton-school.")
    text = (DEPLOY / "systemd" / unit).read_text()
    fame = shutil.which("true") or ""
    (tmp_path / here).write_text(text.replace("/opt/fame/bin/fame", fame))

    verified = run("systemd-analyze", "verify", f"./{here}", cwd=tmp_path)
    # It answers 0 to a key that it does not know, and says so.
    assert here not in verified, verified
    threshold = str(int(EXPOSURE_MAX * 10))
    run(
        "systemd-analyze",
        "security",
        "--offline=true",
        f"--threshold={threshold}",
        here,
        cwd=tmp_path,
    )

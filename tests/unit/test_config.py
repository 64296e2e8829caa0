"""Settings: which wins, what is refused, and what a person is told."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from broker.cli.config_cmd import example_text
from broker.config import BrokerConfig, ConfigError, child_environment, load
from broker.core.limits import LIMITS, Limits


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "fame.toml"
    path.write_text('[http]\nport = 9000\nhost = "127.0.0.2"\n\n[limits]\ndepth_max = 10\n')
    return path


def problems(path: Path | None, **env: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, env=env)
    return str(caught.value)


def test_without_a_file_every_setting_has_its_default() -> None:
    loaded = load(None, env={})

    assert loaded.config.http.port == 8443
    assert set(loaded.origins.values()) == {"default"}


def test_the_command_line_beats_the_environment_and_that_beats_the_file(file: Path) -> None:
    env = {"FAME_HTTP__PORT": "9001", "FAME_HTTP__HOST": "127.0.0.3"}

    loaded = load(file, env=env, overrides={"http.port": "9002"})

    assert (loaded.config.http.port, loaded.config.http.host) == (9002, "127.0.0.3")
    assert loaded.config.limits.depth_max == 10
    assert loaded.origins["http.port"] == "command line"
    assert loaded.origins["http.host"] == "environment FAME_HTTP__HOST"
    assert loaded.origins["limits.depth_max"] == "fame.toml line 6"
    assert loaded.origins["limits.body_bytes_max"] == "default"


def test_a_list_in_the_environment_is_written_with_commas() -> None:
    config = load(None, env={"FAME_HTTP__PROXIES": "10.0.0.0/8, 127.0.0.1/32"}).config

    assert config.http.proxies == ("10.0.0.0/8", "127.0.0.1/32")


def test_relative_paths_start_at_the_folder_of_the_file(file: Path) -> None:
    config = load(file, env={}).config

    assert config.keys.kek_file == file.parent / "keys" / "kek.key"
    assert config.store.url == f"sqlite:///{file.parent}/data/fame.db"


def test_absolute_paths_and_other_databases_stay_as_they_are() -> None:
    env = {"FAME_KEYS__KEK_FILE": "/run/kek", "FAME_STORE__URL": "postgresql://db/fame"}

    config = load(None, env=env).config

    assert config.keys.kek_file == Path("/run/kek")
    assert config.store.url == "postgresql://db/fame"


def test_an_unknown_key_is_named_with_its_line_and_the_one_that_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "fame.toml"
    path.write_text("# settings\n[http]\nprot = 1\n")

    assert problems(path) == "fame.toml line 3: unknown key http.prot. Did you mean http.port?"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[htpp]\nport = 1\n", "line 2: unknown key htpp.port. Did you mean http.port?"),
        ("[wrong]\n", "line 1: unknown key wrong."),
        ("port = 1\n", "line 1: unknown key port. Did you mean http.port?"),
        ("http = 1\n", "line 1: unknown key http."),
        ("[x]\nqqq = 1\n", "line 2: unknown key x.qqq. `fame config show` lists every key."),
        ("[limits.more]\nx = 1\n", "unknown key limits.more."),
    ],
)
def test_what_stands_in_the_wrong_place_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "fame.toml"
    path.write_text(text)

    assert said in problems(path)


def test_an_unknown_variable_with_our_prefix_is_refused() -> None:
    said = problems(None, FAME_STORE__BATCHMAX="3")

    assert "environment FAME_STORE__BATCHMAX: unknown key store.batchmax" in said
    assert "Did you mean store.batch_max?" in said


def test_variables_without_a_section_belong_to_others() -> None:
    assert load(None, env={"FAME_CRASH_AT": "commit", "HTTP__PORT": "1"}).config == BrokerConfig(
        **load(None, env={}).config.model_dump()
    )


def test_every_impossible_value_is_named_at_once_and_none_is_repeated(tmp_path: Path) -> None:
    path = tmp_path / "fame.toml"
    path.write_text('[http]\nport = 70000\n[broker]\nid = "Secret Name"\n')

    said = problems(path)

    assert "fame.toml line 2: http.port: Input should be less than or equal to 65535" in said
    assert "fame.toml line 4: broker.id: Value error, an agency id is" in said
    assert "Secret Name" not in said
    assert "70000" not in said


def test_a_file_that_cannot_be_read_is_a_problem_and_no_empty_configuration(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    (tmp_path / "broken.toml").write_text("[http\n")

    assert "No such file" in problems(tmp_path / "fame.toml")
    assert "not UTF-8" in problems(tmp_path / "latin.toml")
    assert "not TOML" in problems(tmp_path / "broken.toml")


def test_the_limits_of_the_configuration_are_those_of_the_core() -> None:
    section = load(None, env={}).config.limits

    assert section.limits() == LIMITS
    assert set(type(section).model_fields) == {field.name for field in fields(Limits)}


def test_the_example_states_every_setting_with_its_default(tmp_path: Path) -> None:
    text = example_text()
    path = tmp_path / "fame.toml"
    path.write_text(text)

    (tmp_path / "empty.toml").touch()

    assert load(path, env={}).config == load(tmp_path / "empty.toml", env={}).config
    named = {line.split(" =")[0].removeprefix("# ") for line in text.splitlines()}
    for section, content in load(None, env={}).config.model_dump().items():
        assert set(content) <= named
        assert section in tomllib.loads(text)


def test_the_example_in_deploy_is_the_one_the_command_prints() -> None:
    shipped = Path(__file__).parents[2] / "deploy" / "fame.example.toml"

    assert shipped.read_text() == example_text()


def test_a_process_started_here_does_not_inherit_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAME_HTTP__PORT", "1")
    monkeypatch.setenv("FAME_CRASH_AT", "x")

    environment = child_environment(EXTRA="1")

    assert "FAME_HTTP__PORT" not in environment
    assert environment["FAME_CRASH_AT"] == "x"
    assert environment["EXTRA"] == "1"


def test_every_setting_is_used_somewhere() -> None:
    code = Path(__file__).parents[2] / "broker"
    files = [path for path in code.rglob("*.py") if path.name not in {"config.py", "config_cmd.py"}]
    text = "\n".join(path.read_text() for path in files)
    names = [
        name
        for section, content in load(None, env={}).config.model_dump().items()
        for name in content
        if section != "limits"  # the test of the limits sees to those
    ]

    assert not [name for name in names if not re.search(rf"\.{name}\b", text)]

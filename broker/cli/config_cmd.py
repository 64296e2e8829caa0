"""`fame config`: what the settings are, where each came from, and an example of every one."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from broker.cli.home import Config, Json, load_config, print_json, print_rows
from broker.config import BrokerConfig

app = typer.Typer(rich_markup_mode=None)


@app.command()
def show(
    config: Config = None,
    origin: Annotated[
        bool, typer.Option("--origin", help="With where each value came from.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show every setting as the broker would use it."""
    loaded = load_config(config)
    values = dict(_values(loaded.config))
    if as_json:
        shown: Mapping[str, Any] = values
        if origin:
            shown = {
                key: {"value": value, "origin": loaded.origins[key]}
                for key, value in values.items()
            }
        print_json(shown)
        return
    rows = [(key, str(value), loaded.origins[key]) for key, value in values.items()]
    if origin:
        print_rows(("setting", "value", "origin"), rows)
    else:
        print_rows(("setting", "value"), [row[:2] for row in rows])


@app.command()
def example() -> None:
    """Print a fame.toml with every setting, its meaning and its default."""
    print(example_text(), end="")


def example_text() -> str:
    """Return a configuration file that states every default."""
    lines = [
        "# Every setting of the broker with its default: `fame config example` prints this file.",
        "# Each may also come from the environment: FAME_HTTP__PORT=9443 sets http.port.",
        "# Relative paths start at the folder of this file. Secrets are files, never values.",
    ]
    for section, field in BrokerConfig.model_fields.items():
        model: type[BaseModel] = field.annotation  # type: ignore[assignment]
        lines += ["", f"# {model.__doc__}", f"[{section}]"]
        for name, setting in model.model_fields.items():
            lines += [f"# {setting.description}{_bounds(setting.metadata)}", _line(name, setting)]
    return "\n".join(lines) + "\n"


def _values(config: BrokerConfig) -> list[tuple[str, Any]]:
    return [
        (f"{section}.{name}", value)
        for section, content in config.model_dump(mode="json").items()
        for name, value in content.items()
    ]


def _line(name: str, setting: Any) -> str:  # noqa: ANN401 - pydantic's FieldInfo
    default = setting.default
    if default is PydanticUndefined:
        # Where the shipped data lies depends on how the broker was installed.
        return f'# {name} = "the folder {name.removesuffix("_dir")} that came with the broker"'
    if isinstance(default, tuple):
        return f"{name} = {list(default)}"
    if isinstance(default, bool):
        return f"{name} = {str(default).lower()}"
    return f"{name} = {default}" if isinstance(default, int | float) else f'{name} = "{default}"'


def _bounds(metadata: list[Any]) -> str:
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    found = [
        f"{text} {getattr(bound, name)}"
        for bound in metadata
        for name, text in words.items()
        if hasattr(bound, name)
    ]
    return f" ({', '.join(found)})" if found else ""
